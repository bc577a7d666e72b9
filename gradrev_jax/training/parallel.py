"""Data parallelism: one pure update, compiled for all devices of all processes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped, UInt8

from gradrev_jax.errors import ConfigError
from gradrev_jax.models.shards import AXIS, BatchShard
from gradrev_jax.training.device_memory import free_bytes
from gradrev_jax.training.update import INPUT_SCOPE, TrainState, Update, all_finite

Mode = Literal["pmap", "jit"]


class StepsTaken(NamedTuple):
    """Represents the outcome of the steps that were taken in one call.

    Attributes:
      metrics: the metrics of the last step; of the first that was not finite, if there is one.
      num_finite: the number of steps before the first whose metrics are not finite.
    """

    metrics: Any
    num_finite: Int[Array, ""]


# Compiled steps: (state, batches of K steps from Parallel.place, targets) -> (state, outcome).
CompiledSteps = Callable[[TrainState, Any, Any], tuple[TrainState, StepsTaken]]


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Represents the devices that share a batch.

    Each device runs the update on its share of the images, by ``pmap``, or by ``jit`` and ``shard_map`` over
    a mesh. Both give what one device gives, up to the order of sums: a batch that does not divide is padded,
    and the padding is left out of everything. The state is replicated on all devices of all processes.

    Attributes:
      mode: ``pmap`` or ``jit``; a single device is always ``jit``.
      devices: the devices of all processes, in the order of the batch.

    Example:
      >>> parallel = Parallel.over(1, batch=8)
      >>> parallel.padded(8)
      8
    """

    mode: Mode
    devices: tuple[jax.Device, ...]

    @classmethod
    def over(cls, count: int | None = None, *, batch: int, mode: Mode = "pmap") -> "Parallel":
        """Chooses the first devices.

        Args:
          count: the number of devices; None: all.
          batch: the number of images of a step.
          mode: ``pmap`` or ``jit``.

        Raises:
          ValueError: an unknown mode.
          ConfigError: more devices than there are, or than a batch has images; with several processes, not
            all.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        devices = jax.devices()
        kind = devices[0].platform
        count = count or len(devices)
        if count > len(devices):
            raise ConfigError(
                f"devices = {count}, but there are {len(devices)} ({kind}); set devices between 1 and "
                f"{len(devices)}, or to 0 for all"
            )
        if count < len(devices) and jax.process_count() > 1:
            raise ConfigError(
                f"devices = {count}, but {jax.process_count()} processes use all of theirs, "
                f"{len(devices)} in all; set devices=0"
            )
        if count > batch:
            raise ConfigError(
                f"a batch of {batch} images cannot be split over {count} devices; take larger batches, or "
                f"set devices to at most {batch}"
            )
        return cls("jit" if count == 1 else mode, tuple(devices[:count]))

    @property
    def mesh(self) -> Mesh:
        """The mesh of all devices, with one axis."""
        return Mesh(np.asarray(self.devices), (AXIS,))

    def padded(self, size: int) -> int:
        """Returns the size of a batch after padding, so that all devices get the same number of images."""
        return -(-size // len(self.devices)) * len(self.devices)

    def own_rows(self, rows: Int[np.ndarray, "K B"]) -> Int[np.ndarray, "K b"]:
        """Returns the rows of K batches that this process's devices take; the first serve as padding."""
        missing = self.padded(rows.shape[1]) - rows.shape[1]
        padded = np.concatenate([rows, rows[:, :missing]], axis=1).reshape(len(rows), len(self.devices), -1)
        mine = [device.process_index == jax.process_index() for device in self.devices]
        return padded[:, mine].reshape(len(rows), -1)

    def place(self, own: Shaped[np.ndarray, "K b ..."]) -> Array:
        """Puts a process's batches, of inputs or rows, on its devices, as the compiled steps take them."""
        if self.mode == "pmap":
            local = self.mesh.local_mesh
            shared = own.reshape(len(own), local.size, -1, *own.shape[2:])
            return jax.device_put(shared, NamedSharding(local, PartitionSpec(None, AXIS)))
        sharding = NamedSharding(self.mesh, PartitionSpec(None, AXIS))
        return jax.make_array_from_process_local_data(sharding, own)

    def replicate(self, tree: Any) -> Any:
        """Replicates arrays on every device; each process gives all of them."""
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if jax.process_count() > 1:  # then device_put corrupts arrays that are on a device already
            tree = jax.tree.map(np.asarray, tree)
        return jax.device_put(tree, everywhere)

    def compile(
        self,
        update: Update,
        *,
        size: int,
        resident_inputs: UInt8[Array, "M S S 3"] | Float[Array, "M V D"] | None = None,
    ) -> CompiledSteps:
        """Compiles an update for a few steps in a row; the state is donated, where that is possible.

        Args:
          update: the pure update, as ``training.update.make_update`` returns it.
          size: the number of images in a batch.
          resident_inputs: the inputs of all images, replicated, of which batches are rows; None: batches are
            inputs.

        Returns:
          (state, batches of K steps from ``place``, targets [K, ...]) -> (state, ``StepsTaken``).
        """
        # On a CPU, convolutions within a loop are ten times as slow, so the loop over steps is unrolled.
        steps = functools.partial(_take_steps, update, unroll=self.devices[0].platform == "cpu")
        if self.mode == "jit" and len(self.devices) == 1:
            if resident_inputs is None:
                return jax.jit(functools.partial(steps, resident_inputs=None, shard=None), donate_argnums=0)
            compiled = jax.jit(functools.partial(steps, shard=None), donate_argnums=0)
            return _with_resident_inputs(compiled, resident_inputs)
        share = self.padded(size) // len(self.devices)

        def steps_on_device(
            state: TrainState, batches: Array, targets: Any, resident_inputs: Array | None
        ) -> tuple[TrainState, StepsTaken]:
            rows = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
            return steps(state, batches, targets, resident_inputs, shard=BatchShard(rows, size, AXIS))

        if self.mode == "jit":
            return _with_resident_inputs(self._shard_map(steps_on_device), resident_inputs)
        return self._pmap(steps_on_device, resident_inputs)

    def _shard_map(self, steps_on_device: Callable[..., tuple[TrainState, StepsTaken]]) -> Callable[..., Any]:
        """Compiles the steps of one device for all of them, with ``jit`` and ``shard_map``."""
        whole, split = PartitionSpec(), PartitionSpec(None, AXIS)
        mapped = jax.shard_map(
            steps_on_device,
            mesh=self.mesh,
            in_specs=(whole, split, whole, whole),
            out_specs=whole,
            check_vma=False,  # the update averages gradients itself, as it does under pmap
        )
        return jax.jit(mapped, donate_argnums=0)

    def _pmap(
        self, steps_on_device: Callable[..., tuple[TrainState, StepsTaken]], resident_inputs: Array | None
    ) -> CompiledSteps:
        """Compiles the steps of one device for all of them, with ``pmap``."""
        axes: dict[str, Any] = {"in_axes": (None, 1, None, None), "out_axes": None}
        if jax.process_count() == 1:
            mapped = jax.pmap(steps_on_device, AXIS, devices=self.devices, donate_argnums=0, **axes)
            return _with_resident_inputs(mapped, resident_inputs)

        # With several processes, pmap takes and returns arrays on the devices of its own process alone, and
        # would copy what it is donated.
        mapped = jax.pmap(steps_on_device, AXIS, **axes)
        local_inputs = _rewrap(resident_inputs, self.mesh.local_mesh)

        def steps(state: TrainState, batches: Array, targets: Any) -> tuple[TrainState, StepsTaken]:
            local_state = _rewrap(state, self.mesh.local_mesh)
            state, taken = mapped(local_state, batches, targets, local_inputs)
            return _rewrap(state, self.mesh), taken

        return steps

    def check_room(self, shape: Sequence[int], *, besides: int, dtype: DTypeLike = np.uint8) -> None:
        """Raises unless the inputs of all images fit on every device of this process.

        Args:
          shape: the shape of the inputs, [M, S, S, 3] or [M, V, D].
          besides: the number of bytes that training needs there at least.
          dtype: the dtype of the inputs.

        Raises:
          ConfigError: they do not, with the sizes.
        """
        own = [device for device in self.devices if device.process_index == jax.process_index()]
        copies = len(own) if own[0].platform == "cpu" else 1  # devices of a CPU share its memory
        free = free_bytes(own[0])
        size = math.prod(shape) * np.dtype(dtype).itemsize
        needed = copies * (size + besides)
        if needed > free:
            each = " x ".join(map(str, shape[1:3]))
            images = f"{shape[0]:,} images of {each} ({_gib(size)})"
            shared = f", once for each of {copies} devices that share its memory" if copies > 1 else ""
            raise ConfigError(
                f"data.placement = 'device' needs {_gib(needed)} on {own[0]}, for {images} and the state of "
                f"the training{shared}, but {_gib(free)} are free; set data.placement=host"
            )


def _take_steps(
    update: Update,
    state: TrainState,
    batches: Array,
    targets: Any,
    resident_inputs: Array | None,
    *,
    shard: BatchShard | None,
    unroll: bool,
) -> tuple[TrainState, StepsTaken]:
    """Takes K steps in a row on one device.

    Args:
      update: the pure update.
      state: the state before the first step.
      batches: the inputs of the device, [K, b, ...], or their rows among the resident inputs, [K, b].
      targets: the targets of the whole batches, [K, ...].
      resident_inputs: the inputs of all images; None: ``batches`` are inputs.
      shard: the part of the batch that the device has; None: all of it.
      unroll: whether the loop over steps is unrolled.
    """

    def take_step(state: TrainState, step: tuple[Array, Any]) -> tuple[TrainState, Any]:
        batch, targets = step
        if resident_inputs is not None:
            with jax.named_scope(INPUT_SCOPE):
                batch = resident_inputs[batch]
        state, metrics = update(state, batch, targets, shard)
        return state, (metrics, all_finite(metrics))

    if len(batches) == 1:  # a loop over a single step would only take longer to compile
        state, (metrics, is_finite) = take_step(state, jax.tree.map(lambda leaf: leaf[0], (batches, targets)))
        return state, StepsTaken(metrics, is_finite.astype(jnp.int32))
    state, (metrics, are_finite) = jax.lax.scan(take_step, state, (batches, targets), unroll=unroll)
    num_finite = jnp.cumprod(are_finite.astype(jnp.int32)).sum(dtype=jnp.int32)
    reported = jnp.minimum(num_finite, len(batches) - 1)  # the first that is not finite, or else the last
    return state, StepsTaken(jax.tree.map(lambda leaf: leaf[reported], metrics), num_finite)


def _with_resident_inputs(
    compiled: Callable[..., tuple[TrainState, StepsTaken]], resident_inputs: Array | None
) -> CompiledSteps:
    """Binds the resident inputs, which are the last argument of compiled steps."""
    return lambda state, batches, targets: compiled(state, batches, targets, resident_inputs)


def _rewrap(tree: Any, mesh: Mesh) -> Any:
    """Returns the copies on this process's devices as arrays that are replicated over a mesh."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def rewrap(leaf: Array) -> Array:
        copies = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, copies)

    return jax.tree.map(rewrap, tree)


def _gib(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB"
