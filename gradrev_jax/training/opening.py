"""Opens what a run trains on and with, and finds what is wrong with it before anything is written."""

import pathlib
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from gradrev_jax import distributed
from gradrev_jax.core.attributes import NOT_LABELLED
from gradrev_jax.data.batches import steps_per_epoch
from gradrev_jax.data.catalogue import PARTS, TEST, TRAIN, VALIDATION, Catalogue
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.errors import ConfigError, DataError, WorkdirError, join_names, naming, together
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.models.inputs import Rows
from gradrev_jax.models.interface import Encoder
from gradrev_jax.models.variables import backbone_variables
from gradrev_jax.runs import builders, workdir
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.damaged_checkpoints import set_unscored_aside
from gradrev_jax.runs.disk_use import check_room, checkpoint_bytes, describe_use
from gradrev_jax.runs.drift import check_resumed
from gradrev_jax.runs.fields.data import DEVICE
from gradrev_jax.runs.fields.table import FIELDS
from gradrev_jax.runs.fingerprints import (
    Fingerprint,
    fingerprint,
    read_fingerprint,
    remember_digests,
)
from gradrev_jax.runs.frozen_backbone import FrozenBackbone
from gradrev_jax.runs.inputs import input_size, open_frozen, open_inputs
from gradrev_jax.runs.pixels import cache_folder, cache_limit
from gradrev_jax.runs.protocol import (
    Protocol,
    build_protocol,
    check_compared,
    check_protocol,
    check_queries,
    evaluation_queries,
    queries_of,
    validation_choices,
)
from gradrev_jax.runs.starting_weights import read_starting_weights
from gradrev_jax.systems.objective import ENCODER, MEMORY, Objective
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.saved_state import has_checkpoint, is_over
from gradrev_jax.training.stages import (
    STAGE_BUILDERS,
    last_step,
    memory_epoch_steps,
    patient_steps,
    stage_devices,
)


class History(NamedTuple):
    """Represents what a folder holds of a run before it goes on.

    Attributes:
      has_begun: whether a stage has a checkpoint.
      fingerprint: the catalogue that was trained on; None: not begun, or begun by an earlier version.
    """

    has_begun: bool
    fingerprint: Fingerprint | None


class Plan(NamedTuple):
    """Represents what is known of a run before any of its images is read.

    Attributes:
      config: the config of the run.
      directory: the folder of the run.
      history: what the folder held before.
      catalogue: the catalogue, with its validation part.
      protocol: the protocol of its evaluation.
      encoder: the model.
      objectives: what each stage minimises, by its name.
      devices: the devices of each stage, by its name.
    """

    config: ConfigDict
    directory: pathlib.Path
    history: History
    catalogue: Catalogue
    protocol: Protocol
    encoder: Encoder
    objectives: dict[str, Objective]
    devices: dict[str, Parallel]

    @property
    def validation_part(self) -> str:
        """The part that chooses the best checkpoint."""
        return TEST if self.protocol.select_on_test else VALIDATION


class Data(NamedTuple):
    """Represents what a run is trained on, and starts from.

    Attributes:
      inputs: the inputs of the model by part.
      frozen: the backbone that computed the inputs; None: they are pixels, or the user's own vectors.
      triplets: the triplets of stage 2; None without it.
      starting_weights: the parameters and statistics that the encoder's backbone starts from, without those
        of layers that start at random.
      notes: what the user is told about the catalogue.
      disk_note: what the user is told about the disk.
    """

    inputs: dict[str, Rows]
    frozen: FrozenBackbone | None
    triplets: Triplets | None
    starting_weights: Any
    notes: list[str]
    disk_note: str


def with_earlier_values(config: ConfigDict, directory: pathlib.Path) -> ConfigDict:
    """Returns a config in which the fields that the run's version lacked have what they stood for then."""
    earlier = workdir.earlier_values(directory)
    if not earlier:
        return config
    given = workdir.flat_fields(config.to_dict())
    defaults = workdir.flat_fields({name: FIELDS[name].default for name in earlier})
    then = workdir.flat_fields(earlier)
    if ignored := [name for name in earlier if given[name] not in (then[name], defaults[name])]:
        values = ", ".join(f"{name}={earlier[name]!r}" for name in ignored)
        distributed.say(f"{directory} was begun by an earlier version, and goes on as it was: {values}")
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(earlier)
    return config


def read_history(directory: pathlib.Path) -> History:
    """Reads what a folder holds of a run; first moves checkpoints aside whose damage would stop it."""
    if distributed.is_first():
        for stage in STAGE_BUILDERS:
            for note in set_unscored_aside(workdir.checkpoint_directory(directory, stage)):
                distributed.say(note)
    distributed.barrier("scores")
    has_begun = any(has_checkpoint(directory, name) for name in STAGE_BUILDERS)
    return History(has_begun, read_fingerprint(directory) if has_begun else None)


def make_plan(config: ConfigDict, directory: pathlib.Path, history: History) -> Plan:
    """Opens the catalogue, and builds what depends on its attributes and labels alone."""
    protocol = build_protocol(config)
    known = workdir.read_schema(directory) if (directory / workdir.SCHEMA).exists() else None
    catalogue = remember_digests(builders.open_catalogue(config, known))
    check_protocol(protocol, catalogue)
    _check_labelled(catalogue)
    encoder = builders.build_encoder(config, catalogue.schema)
    is_learned = _is_edit_learned(config, encoder)
    check_compared(protocol, encoder.blocks, config.model.system, is_learned=is_learned)
    workdir.check_claim(directory, config.to_dict())
    _catalogue_changes(config, directory, history, catalogue)  # for its errors
    if config.train.max_steps == 0 and not has_checkpoint(directory, ENCODER):
        raise ConfigError(
            f"train.max_steps = 0 takes the encoder that a run has as it is, and {directory} has none"
        )
    _check_not_built_upon(config, directory, len(catalogue.parts[TRAIN]))
    objectives = builders.objectives(config, encoder, catalogue.part_labels(TRAIN))
    devices = {name: stage_devices(config, name) for name in config.stages}
    return Plan(config, directory, history, catalogue, protocol, encoder, objectives, devices)


def open_data(plan: Plan, *, progress: bool) -> Data:
    """Opens what a run is trained on; all checks that need no image come before any image is read."""
    config, directory, catalogue, protocol = plan.config, plan.directory, plan.catalogue, plan.protocol
    frozen = open_frozen(config, directory)
    # The evaluation's needs are checked too, so that its errors do not come after hours of training.
    triplets, _, _, inputs = together(
        lambda: _triplets(config, catalogue),
        lambda: evaluation_queries(catalogue, protocol, builders.data_seed(config)),
        lambda: _check_choices(plan),
        lambda: open_inputs(catalogue, PARTS, config, frozen, progress=progress),
    )
    workdir.check_vectors(directory, catalogue.vectors)
    notes = _catalogue_changes(config, directory, plan.history, catalogue)
    shapes = parameter_shapes(plan.encoder, input_size(config, inputs[TRAIN]))
    disk_note = _check_fits(plan, inputs[TRAIN], shapes)
    return Data(inputs, frozen, triplets, _starting_weights(config, directory, shapes), notes, disk_note)


def _check_fits(plan: Plan, inputs: Rows, shapes: Any) -> str:
    """Checks that a run fits in memory and on the disk; returns what the user is told of the disk."""
    config, directory = plan.config, plan.directory
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    if config.data.placement == DEVICE:
        # Parameters, their gradients and two moments.
        plan.devices[ENCODER].check_room(inputs.shape, besides=4 * size, dtype=inputs.dtype)
    needed = checkpoint_bytes(size, len(config.stages))
    check_room(directory, needed)
    cache = cache_folder(config.data.cache_dir) if plan.catalogue.vectors is None else None
    return describe_use(directory, needed, cache, cache_limit(config))


def _catalogue_changes(
    config: ConfigDict, directory: pathlib.Path, history: History, catalogue: Catalogue
) -> list[str]:
    """Returns the changes of a catalogue since a run began, a sentence for each kind, if it may go on.

    Only the contents of images that have been read by now are compared, see ``RememberedDigests``.
    """
    if history.fingerprint is None:
        return []
    workdir.check_schema(directory, catalogue.schema)
    now, accept = fingerprint(catalogue), config.data.accept_changes
    return check_resumed(history.fingerprint, now, catalogue.schema, directory, accept=accept)


def _starting_weights(config: ConfigDict, directory: pathlib.Path, shapes: Any) -> Any:
    """Returns the weights that a backbone which is trained starts from, read from the file that is named.

    There are none if the encoder goes on from a checkpoint anyway.
    """
    if config.model.freeze_backbone or has_checkpoint(directory, ENCODER):
        return {}
    return read_starting_weights(config, backbone_variables(shapes))


def _check_choices(plan: Plan) -> None:
    """Raises if the protocol leaves a field to the validation part, and that part has no query."""
    protocol, encoder, catalogue = plan.protocol, plan.encoder, plan.catalogue
    is_learned = _is_edit_learned(plan.config, encoder)
    fields = validation_choices(protocol, encoder.blocks, catalogue.schema, is_learned=is_learned)
    if fields:
        check_queries(queries_of(catalogue, VALIDATION, protocol, builders.data_seed(plan.config)), fields[0])


def _is_edit_learned(config: ConfigDict, encoder: Encoder) -> bool:
    """Returns whether the run's last stage learns an edit of the features."""
    return builders.learned_edit(config, encoder, config.stages[-1]) is not None


def _check_labelled(catalogue: Catalogue) -> None:
    """Raises unless a training image is labelled; tells the user of attributes without any label.

    Raises:
      DataError: no training image is labelled.
    """
    without = (catalogue.part_labels(TRAIN) == NOT_LABELLED).all(axis=0)
    if without.all():
        raise DataError("no training image is labelled, so there is nothing to learn")
    if without.any():
        names = [name for name, is_without in zip(catalogue.schema.names, without, strict=True) if is_without]
        distributed.say(f"no training image is labelled for {join_names(names)}, so nothing is learned of it")


def _triplets(config: ConfigDict, catalogue: Catalogue) -> Triplets | None:
    """Returns the triplets that stage 2 trains on; None without it."""
    if MEMORY not in config.stages:
        return None
    triplets = builders.triplets_of(catalogue, config)
    memory_epoch_steps(config, triplets)
    return triplets


def _check_not_built_upon(config: ConfigDict, directory: pathlib.Path, num_images: int) -> None:
    """Raises if the encoder would be trained further although a memory was fine-tuned on it."""
    with naming("train.{}"):
        epoch_steps = steps_per_epoch(num_images, config.train.batch_size)
    if not (has_checkpoint(directory, MEMORY) and has_checkpoint(directory, ENCODER)):
        return
    last = last_step(config, ENCODER, epoch_steps)
    with Checkpoints(workdir.checkpoint_directory(directory, ENCODER), read_only=True) as checkpoints:
        if is_over(checkpoints, last, patient_steps(config, epoch_steps)):
            return
        trained = checkpoints.latest_step
    as_it_is = "train.max_steps = 0 leaves it as it is"
    if config.train.schedule == "cosine":  # which counts towards the last step, so that this is fixed
        as_it_is = "the train.patience that it was trained with leaves it as it is"
    raise WorkdirError(
        f"{directory} has a memory that was fine-tuned after step {trained} of its encoder, which "
        f"would now be trained to step {last}; {as_it_is}; to do both, remove "
        f"{workdir.checkpoint_directory(directory, MEMORY)}, or start afresh in another --workdir"
    )
