"""A trained run in three lines of Python: open it, pick a garment, and ask for another like it, but red."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.search.item_products import ItemProducts, recent_products
from gradrev_jax.search.item_search import ItemEdit, ItemGallery
from gradrev_jax.serving.changes import Described, Removes, make_edit
from gradrev_jax.serving.engine_runs import open_engine_of, search_in_engine
from gradrev_jax.serving.engines.engine import Engine
from gradrev_jax.serving.engines.exact import EngineNeighbors
from gradrev_jax.serving.found import Found
from gradrev_jax.serving.gallery_catalogue import where_else
from gradrev_jax.serving.hub import locate, name_of
from gradrev_jax.serving.items import Edited, Item
from gradrev_jax.serving.matching import Where, wanted_values, without_unwanted
from gradrev_jax.serving.network import Network
from gradrev_jax.serving.opening import ServedRun, open_served
from gradrev_jax.serving.photos import Photo, picture, read_photo


class Retriever:
    """A trained run in use. All its methods may be called by several threads at once.

    Args:
      run: the opened run.
      engine: the engine that its gallery is searched in; None: this process searches.

    Example:
      >>> shop = Retriever.open("no/such/run")
      Traceback (most recent call last):
      gradrev_jax.errors.WorkdirError: no/such/run is not a run of train.py: it has no config.json

    With a run that was trained::

      shop = Retriever.open("runs/mine")
      found = shop.item("images/0001.jpg").change(color="red", sleeve="long").search(k=20)
      found[0].name, found[0].labels, found.matches
    """

    def __init__(self, run: ServedRun, engine: Engine | None = None) -> None:
        space = run.gallery.space
        self._run, self._space, self._engine = run, space, engine
        self._gallery = ItemGallery.build(
            run.gallery.blocks,
            np.asarray(space.fitted.memory, np.float32),
            np.asarray(space.fitted.absent, np.float32),
            space.way.normalize,
            space.way.weights,
        )
        self._probabilities = space.probabilities(run.gallery.own_logits)
        self._products = recent_products()
        self._loaded: dict[str, Any] = {}
        self._loading = Lock()
        self.labels: Int[np.ndarray, "G N"] = run.catalogue.labels[run.rows]
        self.is_labelled = (self.labels != NOT_LABELLED).any(axis=0)
        self.names = [run.catalogue.images.name(row) for row in run.rows.tolist()]
        self.predicted = space.schema.likeliest(self._probabilities)

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str],
        *,
        parts: Sequence[str] = ("test",),
        step: str = "best",
        protocol: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        engine: str | None = None,
        progress: bool = True,
    ) -> "Retriever":
        """Opens a run for use; the first time its gallery is encoded, and kept in its folder.

        Args:
          where: the folder of a run, or of a model to share; or ``hub:NAME``, or ``hub:NAME@REVISION``.
          parts: the parts of its catalogue that are searched: ``train``, ``validation``, ``test``.
          step: the checkpoint: ``best`` (on the validation part), ``latest``, or its number.
          protocol: fields of ``config.protocol`` to override: how garments are compared and edited.
          data: fields of ``config.data`` to override: where the catalogue lies now.
          engine: a vector engine that was filled with the gallery, ``milvus:PATH.db`` or
            ``milvus:http://HOST:PORT``; None: this process searches.
          progress: whether progress bars are shown.

        Raises:
          UserError: the folder is not a run, its catalogue cannot be read, or the engine or the hub does not
            answer.
        """
        run = open_served(
            locate(where, progress=progress),
            parts=parts,
            step=step,
            protocol=protocol or {},
            data=data or {},
            progress=progress,
        )
        return cls(run, None if engine is None else open_engine_of(run, engine))

    def close(self) -> None:
        """Closes the connection to the engine, if there is one; searches are then refused."""
        if self._engine is not None:
            self._engine.close()

    @property
    def schema(self) -> AttributeSchema:
        """The attributes and their values."""
        return self._space.schema

    @property
    def num_items(self) -> int:
        """The number of garments in the gallery."""
        return len(self.names)

    @property
    def name(self) -> str:
        """The name of the run."""
        return name_of(self._run.directory)

    @property
    def ignores_missing(self) -> bool:
        """Whether missing labels were ignored in training, and are no value of their own."""
        return self._space.missing == "ignore"

    @property
    def has_look(self) -> bool:
        """Whether the run compares how garments look, besides what they are."""
        return self._space.look is not None

    @property
    def look(self) -> float | None:
        """The weight of how garments look that was chosen for the run; None: it does not compare looks."""
        return self._space.look

    def item(self, which: int | str) -> Item:
        """Returns a garment of the gallery.

        Args:
          which: its row, or the name of its image.

        Raises:
          DataError: there is none; the message has the nearest names.
        """
        row = self.row(which)
        described = Described(self.labels[row], self.predicted[row], self._probabilities[row])
        return Item(self, np.asarray(self._gallery.blocks[row]), described, row)

    def row(self, which: int | str) -> int:
        """Returns the row of a garment.

        Args:
          which: its row, or the name of its image.

        Raises:
          DataError: there is none; the message has the nearest names.
        """
        if isinstance(which, str):
            rows = self._load("rows", lambda: {name: row for row, name in enumerate(self.names)})
            if which not in rows:
                hint = where_else(which, self._run.catalogue, self.names)
                raise DataError(f"no image of the gallery is called {which!r}; {hint}")
            return int(rows[which])
        if isinstance(which, bool) or not isinstance(which, int | np.integer):
            raise DataError(f"an item is a row or a name, got {which!r}")
        if not 0 <= which < self.num_items:
            raise DataError(f"the gallery has rows 0 to {self.num_items - 1}, got {which}")
        return int(which)

    def photo(self, photo: Photo) -> Item:
        """Returns the garment of a photograph.

        Args:
          photo: the path of a file, its content, an open file, a Pillow image, or pixels, uint8 [H, W, 3].

        Raises:
          DataError: it is no image that can be read, or the run cannot see photographs.
        """
        network = self._network()
        images = network.encode(read_photo(photo, network.image_size, network.largest_image))
        probabilities = self._space.probabilities(np.asarray(images.own_logits))
        described = Described(images.labels[0], self.schema.likeliest(probabilities)[0], probabilities[0])
        return Item(self, self._space.represent(images)[0], described)

    def warm(self) -> None:
        """Loads the network, and describes a blank photograph, so that the first real one takes no longer."""
        network = self._network()
        self.photo(np.zeros((network.image_size, network.image_size, 3), np.uint8))

    def picture(self, row: int, size: int = 256) -> bytes:
        """Returns a picture of a garment of the gallery, as a JPEG file.

        Args:
          row: its row.
          size: the height and width, in pixels.

        Raises:
          DataError: there is no such row, or its image cannot be read.
        """
        return picture(self._run.catalogue.images, int(self._run.rows[self.row(row)]), size)

    def search(
        self,
        edited: Edited,
        k: int = 20,
        *,
        look: float | None = None,
        where: Where | None = None,
        exclude: int | str | Sequence[int | str] = (),
        removes: Removes = "label",
    ) -> Found:
        """Finds the garments nearest to an edited item; see ``Edited.search``."""
        started = time.perf_counter()
        exclude = [exclude] if isinstance(exclude, str | int | np.integer) else exclude
        _check_k(k)
        item, space, asked = edited.item, self._space, edited.asked
        where, strength = without_unwanted(where, asked, self.schema), space.way.strength
        edit = make_edit(asked, item.described, self.schema, space.edit, strength=strength, removes=removes)
        hits = self._nearest(item, edit, int(k), space.rest(look), where, exclude)
        rows = hits.rows
        predicted = self.predicted[rows]
        columns = np.asarray(self.schema.offsets) + predicted
        return Found(
            schema=self.schema,
            rows=rows,
            distances=hits.distances,
            names=[self.names[row] for row in rows.tolist()],
            labels=self.labels[rows],
            predicted=predicted,
            probabilities=np.take_along_axis(self._probabilities[rows], columns, axis=1),
            wanted=edited.wanted_among(where),
            unwanted=edited.unwanted(removes),
            milliseconds=1e3 * (time.perf_counter() - started),
            exact=hits.exact,
        )

    def allowed(self, where: Where | None, exclude: Sequence[int | str]) -> Bool[np.ndarray, " G"] | None:
        """Returns which rows may be found, [G]; None: all.

        Args:
          where: the labels that garments must have, by attribute: a value, or several.
          exclude: rows or names that are left out.

        Raises:
          ConfigError: an unknown attribute or value.
          DataError: an unknown row or name.
        """
        if not where and not len(exclude):
            return None
        allowed = np.ones(self.num_items, bool)
        for n, values in wanted_values(where or {}, self.schema).items():
            allowed &= np.isin(self.labels[:, n], values)
        for which in exclude:
            allowed[self.row(which)] = False
        return allowed

    def _nearest(
        self,
        item: Item,
        edit: ItemEdit,
        k: int,
        rest: float,
        where: Where | None,
        exclude: Sequence[int | str],
    ) -> EngineNeighbors:
        """Finds the rows nearest to an edited item, in this process or in the engine."""
        if self._engine is None:
            products, allowed = self._products_of(item), self.allowed(where, exclude)
            hits = self._gallery.search(products, edit, k, rest=rest, allowed=allowed)
            return EngineNeighbors(hits.rows, hits.distances, exact=True)
        labels, rows = wanted_values(where or {}, self.schema), [self.row(which) for which in exclude]
        return search_in_engine(
            self._engine, self._gallery, item.blocks, edit, k, rest=rest, where=labels, exclude=rows
        )

    def _network(self) -> Network:
        network: Network = self._load("network", self._run.open_network)
        return network

    def _load(self, name: str, load: Callable[[], Any]) -> Any:
        """Returns a part that is loaded once, by the first that needs it."""
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = load()
            return self._loaded[name]

    def _products_of(self, item: Item) -> ItemProducts:
        """Returns the products of an item with the gallery, kept for the next edit of it."""
        key = item if item.row is None else item.row
        return self._products.get_or_make(key, lambda _: self._gallery.products(item.blocks))


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k must be a whole number of at least 1, got {k!r}")
