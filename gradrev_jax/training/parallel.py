"""Data parallelism: one pure update, compiled for all devices of all processes."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped, UInt8

from gradrev_jax.errors import ConfigError
from gradrev_jax.models.shards import AXIS, BatchShard
from gradrev_jax.training.encoder_step import INPUT_SCOPE, TrainState, Update

Mode = Literal["pmap", "jit"]

# (state, what Parallel.place gives for a few steps, their targets) -> (state, metrics of the last step)
Steps = Callable[[TrainState, Any, Any], tuple[TrainState, Any]]


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How a batch is spread over devices.

    Each device runs the update on its share of the images: by ``pmap``, or by ``jit`` with ``shard_map`` of
    arrays that are split over a mesh. Both give what one device gives, up to the order of sums: a batch that
    does not divide is padded, and the padding left out of everything.

    Arrays of the state lie whole on every device, of all processes.

    Attributes:
      mode: ``pmap`` or ``jit``; a single device is always ``jit``.
      devices: of all processes, in the order of the batch.

    Example:
      >>> parallel = Parallel.over(1, batch=8)
      >>> parallel.padded(8)
      8
    """

    mode: Mode
    devices: tuple[jax.Device, ...]

    @classmethod
    def over(
        cls, count: int | None = None, *, batch: int, mode: Mode = "pmap", field: str = "train.batch_size"
    ) -> "Parallel":
        """The first so many devices.

        Args:
          count: of devices; None: all.
          batch: images that a step takes.
          mode: ``pmap`` or ``jit``.
          field: of the config that decides the batch, for the message.

        Raises:
          ValueError: an unknown mode.
          ConfigError: more devices than there are, or than a batch has images; with several processes, not
            all.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"parallel must be one of {', '.join(get_args(Mode))}, got {mode!r}")
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
                f"a batch of {batch} images cannot be split over {count} devices; raise {field}, or set "
                f"devices to at most {batch}"
            )
        return cls("jit" if count == 1 else mode, tuple(devices[:count]))

    @property
    def mesh(self) -> Mesh:
        """All devices in a row."""
        return Mesh(np.asarray(self.devices), (AXIS,))

    def padded(self, size: int) -> int:
        """Least number of images that all devices share equally, for a batch of so many."""
        return -(-size // len(self.devices)) * len(self.devices)

    def own_rows(self, rows: Int[np.ndarray, "K B"]) -> Int[np.ndarray, "K b"]:
        """Of the rows of K batches, those that this process's devices take; the first stand in as padding."""
        missing = self.padded(rows.shape[1]) - rows.shape[1]
        padded = np.concatenate([rows, rows[:, :missing]], axis=1).reshape(len(rows), len(self.devices), -1)
        mine = [device.process_index == jax.process_index() for device in self.devices]
        return padded[:, mine].reshape(len(rows), -1)

    def place(self, own: Shaped[np.ndarray, "K b ..."]) -> Array:
        """Images, or rows, of this process on its devices, as the compiled steps take them."""
        if self.mode == "pmap":
            local = self.mesh.local_mesh
            shared = own.reshape(len(own), local.size, -1, *own.shape[2:])
            return jax.device_put(shared, NamedSharding(local, PartitionSpec(None, AXIS)))
        sharding = NamedSharding(self.mesh, PartitionSpec(None, AXIS))
        return jax.make_array_from_process_local_data(sharding, own)

    def replicate(self, tree: Any) -> Any:
        """The same arrays, whole on every device; each process gives all of them."""
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if jax.process_count() > 1:  # where device_put spoils arrays that are on a device already
            tree = jax.tree.map(np.asarray, tree)
        return jax.device_put(tree, everywhere)

    def compile(self, update: Update, *, size: int, pixels: UInt8[Array, "M S S 3"] | None = None) -> Steps:
        """Compile an update for a few steps in a row; the state is donated, where that is possible.

        Args:
          update: pure, as of ``training.steps.make_update``.
          size: images in a batch.
          pixels: all images, replicated, of which batches are rows; None: batches are images.

        Returns:
          (state, images or rows of K steps from ``place``, targets [K, ...]) -> (state, metrics of the last).
        """
        each = self.padded(size) // len(self.devices)

        def several(
            state: TrainState, inputs: Array, targets: Any, pixels: Array | None, shard: BatchShard | None
        ) -> tuple[TrainState, Any]:
            def one(state: TrainState, step: tuple[Array, Any]) -> tuple[TrainState, Any]:
                images, targets = step
                if pixels is not None:
                    with jax.named_scope(INPUT_SCOPE):
                        images = pixels[images]
                return update(state, images, targets, shard)

            if len(inputs) == 1:  # a loop of one costs compilers more than it gives
                return one(state, jax.tree.map(lambda leaf: leaf[0], (inputs, targets)))
            # In a loop a CPU's convolutions are ten times as slow.
            unroll = self.devices[0].platform == "cpu"
            state, metrics = jax.lax.scan(one, state, (inputs, targets), unroll=unroll)
            return state, jax.tree.map(lambda leaf: leaf[-1], metrics)

        def on_device(
            state: TrainState, inputs: Array, targets: Any, pixels: Array | None
        ) -> tuple[TrainState, Any]:
            rows = jax.lax.axis_index(AXIS) * each + jnp.arange(each)
            return several(state, inputs, targets, pixels, BatchShard(rows, size, AXIS))

        if self.mode == "jit":
            whole, split = PartitionSpec(), PartitionSpec(None, AXIS)
            shared = jax.shard_map(
                on_device,
                mesh=self.mesh,
                in_specs=(whole, split, whole, whole),
                out_specs=whole,
                check_vma=False,  # gradients are brought together where pmap has them too, by descend
            )
            alone = functools.partial(several, shard=None)
            jitted = jax.jit(shared if len(self.devices) > 1 else alone, donate_argnums=0)
            return lambda state, inputs, targets: jitted(state, inputs, targets, pixels)

        processes = jax.process_count()
        mapped = jax.pmap(
            on_device,
            axis_name=AXIS,
            in_axes=(None, 1, None, None),
            out_axes=None,
            devices=None if processes > 1 else self.devices,
            donate_argnums=() if processes > 1 else 0,  # with several, pmap would copy what it is donated
        )
        if processes == 1:
            return lambda state, inputs, targets: mapped(state, inputs, targets, pixels)

        # Of several processes, pmap takes and gives arrays on its own process's devices alone.
        resident = _rewrapped(pixels, self.mesh.local_mesh)

        def steps(state: TrainState, inputs: Array, targets: Any) -> tuple[TrainState, Any]:
            local = _rewrapped(state, self.mesh.local_mesh)
            state, metrics = mapped(local, inputs, targets, resident)
            return _rewrapped(state, self.mesh), metrics

        return steps

    def check_room(self, shape: Sequence[int], *, besides: int) -> None:
        """Raise unless uint8 images of a shape fit on every device of this process.

        Args:
          shape: of the images, [M, S, S, 3].
          besides: bytes that training needs there at least.

        Raises:
          ConfigError: they do not, with the sizes.
        """
        own = [device for device in self.devices if device.process_index == jax.process_index()]
        copies = len(own) if own[0].platform == "cpu" else 1  # devices of a CPU share its memory
        free = free_bytes(own[0])
        needed = copies * (math.prod(shape) + besides)
        if needed > free:
            images = f"{shape[0]:,} images of {shape[1]} x {shape[2]} ({_gib(math.prod(shape))})"
            shared = f", once for each of {copies} devices that share its memory" if copies > 1 else ""
            raise ConfigError(
                f"data.placement = 'device' needs {_gib(needed)} on {own[0]}, for {images} and the state of "
                f"the training{shared}, but {_gib(free)} are free; set data.placement=host"
            )


def _rewrapped(tree: Any, mesh: Mesh) -> Any:
    """The same copies on this process's devices, as arrays that lie whole on all devices of a mesh."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def rewrap(leaf: Array) -> Array:
        copies = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, copies)

    return jax.tree.map(rewrap, tree)


def _gib(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB"


def free_bytes(device: jax.Device) -> int:
    """Bytes that can still be allocated on a device."""
    statistics = device.memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"] - statistics["bytes_in_use"])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
