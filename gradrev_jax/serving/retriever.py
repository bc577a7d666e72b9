"""A trained run in three lines of Python: open it, pick a garment, and ask for another like it, but red."""

import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.errors import ConfigError, DataError, did_you_mean
from gradrev_jax.search.item_search import ItemGallery, ItemProducts, RecentProducts
from gradrev_jax.serving.changes import Described, Removes, attribute_position, make_edit, value_position
from gradrev_jax.serving.found import Found
from gradrev_jax.serving.items import Edited, Item, Where
from gradrev_jax.serving.network import Network
from gradrev_jax.serving.opening import ServedRun, open_served
from gradrev_jax.serving.photos import Photo, picture, read_photo
from gradrev_jax.serving.space import likeliest

LARGEST_LOOK = 100.0


class Retriever:
    """A trained run in use. All its methods may be called by several threads at once.

    Args:
      run: the opened run.

    Example:
      >>> shop = Retriever.open("no/such/run")
      Traceback (most recent call last):
      gradrev_jax.errors.WorkdirError: no/such/run is not a run of train.py: it has no config.json

    With a run that was trained::

      shop = Retriever.open("runs/mine")
      found = shop.item("images/0001.jpg").change(color="red", sleeve="long").search(k=20)
      found[0].name, found[0].labels, found.matches
    """

    def __init__(self, run: ServedRun) -> None:
        space = run.gallery.space
        self._run, self._space = run, space
        self._gallery = ItemGallery.build(
            run.gallery.blocks,
            np.asarray(space.fitted.memory, np.float32),
            np.asarray(space.fitted.absent, np.float32),
            space.way.normalize,
            space.way.weights,
        )
        self._probabilities = space.probabilities(run.gallery.own_logits)
        self._products = RecentProducts()
        self._loaded: dict[str, Any] = {}
        self._loading = Lock()
        self.labels: Int[np.ndarray, "G N"] = run.catalogue.labels[run.rows]
        self.names = [run.catalogue.images.name(row) for row in run.rows.tolist()]
        self.predicted = likeliest(self._probabilities, space.schema)

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str],
        *,
        parts: Sequence[str] = ("test",),
        step: str = "best",
        protocol: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        progress: bool = True,
    ) -> "Retriever":
        """Opens a run for use; the first time its gallery is encoded, and kept in its folder.

        Args:
          where: the run's folder.
          parts: the parts of its catalogue that are searched: ``train``, ``validation``, ``test``.
          step: the checkpoint: ``best`` (on the validation part), ``latest``, or its number.
          protocol: fields of ``config.protocol`` to override: how garments are compared and edited.
          data: fields of ``config.data`` to override: where the catalogue lies now.
          progress: whether progress bars are shown.

        Raises:
          UserError: the folder is not a run, or its catalogue cannot be read.
        """
        run = open_served(
            pathlib.Path(where),
            parts=tuple(parts),
            step=step,
            protocol=protocol or {},
            data=data or {},
            progress=progress,
        )
        return cls(run)

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
        return self._run.directory.resolve().name

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
                hint = did_you_mean(which, self.names, otherwise=f"the first is {self.names[0]}")
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
          photo: the path of a file, its content, a Pillow image, or RGB pixels, uint8 [H, W, 3].

        Raises:
          DataError: it is no image that can be read, or the run cannot see photographs.
        """
        network = self._network()
        images = network.describe(read_photo(photo, network.image_size))
        probabilities = self._space.probabilities(np.asarray(images.own_logits))
        described = Described(images.labels[0], likeliest(probabilities, self.schema)[0], probabilities[0])
        return Item(self, self._space.describe(images)[0], described)

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
        exclude: Sequence[int | str] = (),
        removes: Removes = "label",
    ) -> Found:
        """Finds the garments nearest to an edited item; see ``Edited.search``."""
        started = time.perf_counter()
        _check_k(k)
        item, way = edited.item, self._space.way
        edit = make_edit(
            edited.asked, item.described, self.schema, way.edit, strength=way.strength, removes=removes
        )
        hits = self._gallery.search(
            self._products_of(item),
            edit,
            int(k),
            rest=self._rest(look),
            allowed=self.allowed(where, exclude),
        )
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
            wanted=self._wanted(edited, where),
            milliseconds=1e3 * (time.perf_counter() - started),
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
        for name, values in (where or {}).items():
            n = attribute_position(name, self.schema)
            several = [values] if values is None or isinstance(values, str) else list(values)
            wanted = [NOT_LABELLED if x is None else value_position(x, n, self.schema) for x in several]
            allowed &= np.isin(self.labels[:, n], wanted)
        for which in exclude:
            allowed[self.row(which)] = False
        return allowed

    def _wanted(self, edited: Edited, where: Where | None) -> Int[np.ndarray, " N"]:
        """Returns the labels asked for, with a filter by one value as one of them."""
        wanted = edited.wanted
        for name, value in (where or {}).items():
            n = attribute_position(name, self.schema)
            if isinstance(value, str):
                wanted[n] = value_position(value, n, self.schema)
        return wanted

    def _network(self) -> Network:
        network: Network = self._load("network", self._run.open_network)
        return network

    def _load(self, name: str, load: Callable[[], Any]) -> Any:
        """Returns what is loaded once, by the first that needs it."""
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = load()
            return self._loaded[name]

    def _products_of(self, item: Item) -> ItemProducts:
        """Returns the products of an item with the gallery, kept for the next edit of it."""
        key = item if item.row is None else item.row
        return self._products.get(key, lambda: self._gallery.products(item.blocks))

    def _rest(self, look: float | None) -> float:
        """Returns the factor of the look's weight.

        Raises:
          ConfigError: the run compares no looks, or the weight is out of range.
        """
        if look is None:
            return 1.0 if self._space.look is None else self._space.look
        if self._space.look is None:
            raise ConfigError("the run compares no looks, so `look` cannot be given; leave it out")
        if not 0 <= look <= LARGEST_LOOK:
            raise ConfigError(f"look must lie between 0 and {LARGEST_LOOK:g}, got {look}")
        return float(look)


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ConfigError(f"k must be a whole number of at least 1, got {k!r}")
