"""Opens a run for use: its gallery encoded, once, and its network ready to be loaded."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.missing_labels import class_labels, classes_of
from gradrev_jax.core.posteriors import fit_temperatures
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Images, Material
from gradrev_jax.data.catalogue import PARTS, TEST, Catalogue
from gradrev_jax.errors import ConfigError, DataError, did_you_mean
from gradrev_jax.evaluation.encoding import EncodedRun, encode_part, encode_run
from gradrev_jax.evaluation.opening import OpenedRun, open_run, read_run_config
from gradrev_jax.evaluation.run_space import choose_space
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.inputs import open_frozen, open_inputs
from gradrev_jax.runs.model_file import holds_model
from gradrev_jax.serving.gallery import (
    EncodedGallery,
    check_finite,
    gallery_provenance,
    join_images,
    keep_gallery,
    kept_folder,
    open_gallery,
)
from gradrev_jax.serving.gallery_catalogue import open_catalogue_for_model, open_catalogue_of_run
from gradrev_jax.serving.kept_spaces import KeptSpace, find_space
from gradrev_jax.serving.network import Network, open_network
from gradrev_jax.serving.shared_model import check_protocol_fields, open_model
from gradrev_jax.serving.space import SearchSpace, with_full_look


class ServedRun(NamedTuple):
    """Represents a run that is ready to answer.

    Attributes:
      directory: the run's folder.
      catalogue: the images and their labels.
      rows: the gallery's rows in the catalogue, [G].
      gallery: the encoded gallery.
      open_network: a function that loads the network, for photographs.
      kept: the folder that the encoded gallery is kept in, where it could be written; None: there is none.
    """

    directory: pathlib.Path
    catalogue: Catalogue
    rows: Int[np.ndarray, " G"]
    gallery: EncodedGallery
    open_network: Callable[[], Network]
    kept: pathlib.Path | None = None


def open_served(
    directory: pathlib.Path,
    *,
    parts: Sequence[str],
    step: str,
    protocol: Mapping[str, Any],
    data: Mapping[str, Any],
    progress: bool,
) -> ServedRun:
    """Opens a run, and encodes its gallery unless that was done before.

    Args:
      directory: the run's folder.
      parts: the parts of the catalogue that are the gallery.
      step: the checkpoint: ``best``, ``latest``, or its number.
      protocol: fields of ``config.protocol`` to override.
      data: fields of ``config.data`` to override, see ``runs.overrides.override_movable``.
      progress: whether progress bars are shown.

    Raises:
      UserError: the folder is not a run, or its catalogue cannot be read.
    """
    _check_parts(parts)
    is_shared = holds_model(directory)
    if is_shared:
        check_protocol_fields(directory, protocol)
    config = read_run_config(directory, protocol, data)
    schema = workdir.read_schema(directory)
    catalogue = (
        open_catalogue_for_model(config, schema, data) if is_shared else open_catalogue_of_run(config, schema)
    )
    check_served(config, catalogue.schema, None)
    rows = catalogue.rows(*parts)
    if not len(rows):
        raise DataError(f"the gallery is empty: the catalogue has no image in {' or '.join(parts)}")
    provenance = gallery_provenance(directory, config.to_dict(), catalogue, rows, {"step": step})
    gallery, is_kept = open_gallery(directory, parts, provenance), True
    if gallery is None:
        if is_shared:
            gallery = _encode_with_model(directory, catalogue, config, parts, step=step, progress=progress)
        else:
            run = open_run(
                directory,
                step=step,
                stage=None,
                protocol=protocol,
                data=data,
                catalogue=catalogue,
                progress=progress,
            )
            gallery = _encode(run, config, parts, find_space(directory, provenance), progress=progress)
        check_finite(gallery.blocks, gallery.own_logits, directory)
        is_kept = keep_gallery(directory, parts, provenance, gallery)
    load = functools.partial(open_network, directory, config, schema, gallery.stage, gallery.step)
    # Where it could not be written, what is kept there is of another gallery.
    kept = kept_folder(directory, parts, provenance) if is_kept else None
    return ServedRun(directory, catalogue, rows, gallery, load, kept)


def check_served(config: ConfigDict, schema: AttributeSchema, stage: str | None) -> None:
    """Raises unless the garments of a run are edited attribute by attribute, by prototypes.

    Args:
      config: the config of the run.
      schema: its attributes.
      stage: the stage that is served; None: the run's last.

    Raises:
      ConfigError: they are not; the message says which representations are.
    """
    if REPRESENTATIONS[config.protocol.representation].reads != "features":
        return
    encoder = builders.build_encoder(config, schema)
    is_learned = builders.learned_edit(config, encoder, stage or config.stages[-1]) is not None
    if is_learned or not encoder.blocks.are_own:
        others = [n for n, each in REPRESENTATIONS.items() if each.reads == "outputs"]
        raise ConfigError(
            f"the features of the system {config.model.system!r} are no blocks that prototypes edit, one for "
            f"each attribute, so they can be evaluated but not served; give --protocol.representation="
            f"{' or '.join(others)}, which describe garments by what its classifiers say"
        )


def fit_space(run: OpenedRun, encoded: EncodedRun, *, progress: bool) -> SearchSpace:
    """Fits all that describes, compares and edits images to the images of a run.

    Args:
      run: the run.
      encoded: its encoded images.
      progress: whether progress bars are shown.

    Raises:
      DataError: there is no query to choose by, or the images cannot be compared.
    """
    chosen = choose_space(run, encoded, progress=progress)
    return SearchSpace(
        schema=run.schema,
        missing=run.encoder.missing,
        representation=run.protocol.representation,
        fitted=with_full_look(chosen.fitted),
        way=chosen.choices.way,
        look=chosen.look.value,
        temperatures=_temperatures(encoded.material),
    )


def _encode(
    run: OpenedRun, config: ConfigDict, parts: Sequence[str], kept: KeptSpace | None, *, progress: bool
) -> EncodedGallery:
    """Encodes the gallery of a run, in the space that is kept if it is of the same checkpoint."""
    encoded: dict[str, Images] = {}
    if kept is not None and (kept.stage, kept.step) == (run.stage, run.step):
        space = kept.space
    else:
        of_run = encode_run(run, progress=progress)
        space, encoded[TEST] = fit_space(run, of_run, progress=progress), of_run.material.gallery
    inputs = dict(run.inputs)
    if others := [part for part in parts if part not in inputs]:
        frozen = open_frozen(config, run.directory)
        inputs |= open_inputs(run.catalogue, others, config, frozen, progress=progress)
    for part in parts:
        if part not in encoded:
            encoded[part] = encode_part(run, part, inputs[part], progress=progress)[1]
    images = join_images([encoded[part] for part in parts])
    return EncodedGallery(
        space, run.stage, run.step, space.represent(images), np.asarray(images.own_logits, np.float32)
    )


def _encode_with_model(
    directory: pathlib.Path,
    catalogue: Catalogue,
    config: ConfigDict,
    parts: Sequence[str],
    *,
    step: str,
    progress: bool,
) -> EncodedGallery:
    """Encodes the gallery with a model that is shared, which needs no other images and no labels."""
    workdir.check_vectors(directory, catalogue.vectors)
    frozen, size = open_frozen(config, directory), config.data.image_size
    if frozen is not None:
        size = frozen.output_width(size)
    elif catalogue.vectors is not None:
        size = catalogue.vectors.shape[-1]
    encoder = builders.build_encoder(config, catalogue.schema)
    model = open_model(directory, encoder, config.protocol.representation, size, step)
    inputs = open_inputs(catalogue, parts, config, frozen, progress=progress)  # once the model is checked
    batch_size = config.protocol.batch_size
    images = [
        model.encode(
            inputs[part], catalogue.part_labels(part), part, batch_size=batch_size, progress=progress
        )
        for part in parts
    ]
    joined = join_images(images)
    own_logits = np.asarray(joined.own_logits, np.float32)
    held = model.checkpoint
    return EncodedGallery(model.space, held.stage, held.step, model.space.represent(joined), own_logits)


def _temperatures(material: Material) -> np.ndarray:
    """Returns the temperature of each attribute's classifier, fitted on the validation part."""
    schema, missing, held_out = material.schema, material.missing, material.held_out
    labels = np.asarray(class_labels(held_out.labels, schema, missing))
    return fit_temperatures(held_out.own_logits, labels, classes_of(schema, missing))


def _check_parts(parts: Sequence[str]) -> None:
    """Raises a ConfigError unless parts are distinct parts of a catalogue."""
    if isinstance(parts, str):
        raise ConfigError(f"parts must be a tuple of names, as ({parts!r},)", arguments=("parts",))
    for part in parts:
        if part not in PARTS:
            hint = did_you_mean(part, PARTS, otherwise=f"there are {', '.join(PARTS)}")
            raise ConfigError(f"no part of a catalogue is called {part!r}; {hint}", arguments=("parts",))
    if not parts or len(set(parts)) < len(parts):
        raise ConfigError(
            f"give each part of the gallery once, got {', '.join(parts) or 'none'}", arguments=("parts",)
        )
