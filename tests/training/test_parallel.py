import json
import os
import pathlib
import subprocess
import sys
from typing import get_args

import jax
import numpy as np
import pytest

from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.fields.general import PARALLEL_MODES
from gradrev_jax.training import device_memory
from gradrev_jax.training import parallel as parallel_module
from gradrev_jax.training.device_memory import free_bytes
from gradrev_jax.training.parallel import Mode, Parallel

ROOT = pathlib.Path(__file__).parents[2]
# (stage, size of a batch, mode, steps at once, whether the images lie on the devices)
CASES = [
    ("encoder", 7, "pmap", 2, True),
    ("encoder", 7, "jit", 1, False),
    ("memory", 3, "pmap", 1, False),
    ("adversarial encoder", 7, "pmap", 2, False),
    ("normed encoder", 7, "pmap", 2, False),
    ("normed encoder", 7, "jit", 1, False),
    ("variants", 7, "pmap", 1, False),
    ("normed memory", 3, "jit", 1, False),
    ("localized encoder", 7, "pmap", 2, False),
]
MODES = PARALLEL_MODES
MORE_CASES = [
    *(("encoder", size, mode, 1, False) for size in (8, 5) for mode in MODES),
    *(("encoder", size, mode, 5, True) for size in (8, 5) for mode in MODES),
    *(("memory", 4, mode, 2, on_device) for mode in MODES for on_device in (True, False)),
]


def on_four_devices(script, *arguments, float64=False):
    """What a script of this folder prints, line by line, in a process that has four devices."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.training.{script}", *arguments],
        env={
            **os.environ,
            "JAX_NUM_CPU_DEVICES": "4",
            "JAX_ENABLE_X64": str(float64),
            # Compiling takes longest, and what these programs compute takes no time.
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_equal_to_one_device(cases):
    results = on_four_devices("on_four_devices", json.dumps(cases), float64=True)
    assert len(results) == len(cases)
    for case, result in zip(cases, results, strict=True):
        assert (result["devices"], result["mode"]) == (4, case[2])
        assert result["params"] < 1e-9, case
        assert result["metrics"] < 1e-9, case


@pytest.mark.long
def test_ten_steps_on_four_devices_are_those_on_one():
    assert_equal_to_one_device(CASES)


@pytest.mark.slow
def test_more_ten_steps_on_four_devices_are_those_on_one():
    assert_equal_to_one_device(MORE_CASES)


@pytest.mark.long
def test_convolutions_by_tiles_on_four_devices_are_those_on_one():
    *results, outputs = on_four_devices("tiles_on_four_devices")
    assert outputs == {"asked": [11, 2], "rows": [[0, 8], [8, 11]], "apart": outputs["apart"]}, (
        "once compiled"
    )
    assert outputs["apart"] < 1e-5
    assert [(result["mode"], result["devices"]) for result in results] == [("pmap", 4), ("jit", 4)]
    for result in results:
        assert result["asked"] == [[4, True]] * 2, "they are by tiles, of a device's images"
        assert set(result["apart"]) == {"outputs", "conv1", "conv2"}
        assert max(result["apart"].values()) < 1e-5, result


def test_all_modes_of_the_config_are_known(unchecked):
    assert get_args(Mode) == PARALLEL_MODES
    with pytest.raises(ValueError, match="mode must be one of pmap, jit, got 'fsdp'"):
        Parallel.over(1, batch=8, mode="fsdp")


class Device:
    platform, process_index = "cpu", 0

    def __init__(self, number, process_index=0, statistics=None):
        self.number, self.process_index, self.statistics = number, process_index, statistics

    def __str__(self):
        return f"gpu:{self.number}"

    def memory_stats(self):
        return self.statistics


@pytest.fixture
def eight_devices(monkeypatch, unchecked):
    devices = [Device(number) for number in range(8)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    return devices


def test_all_devices_share_a_batch(eight_devices):
    parallel = Parallel.over(batch=64)
    assert (parallel.mode, parallel.devices) == ("pmap", tuple(eight_devices))
    assert Parallel.over(1, batch=64).mode == "jit", "of a single device there is nothing to map"
    assert parallel.padded(64) == 64
    assert parallel.padded(57) == 64


@pytest.mark.parametrize(
    ("count", "batch", "message"),
    [
        (9, 64, "devices = 9, but there are 8 .cpu.; set devices between 1 and 8, or to 0 for all"),
        (
            None,
            7,
            "a batch of 7 images cannot be split over 8 devices; take larger batches, or set devices to",
        ),
    ],
)
def test_devices_that_cannot_serve_a_batch(eight_devices, count, batch, message):
    with pytest.raises(ConfigError, match=message):
        Parallel.over(count, batch=batch)


def test_several_processes_use_all_their_devices(eight_devices, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="devices = 4, but 2 processes use all of theirs, 8 in all"):
        Parallel.over(4, batch=64)
    assert len(Parallel.over(8, batch=64).devices) == 8


def test_every_row_is_taken_by_one_process_and_padding_by_the_last(monkeypatch, unchecked):
    devices = tuple(Device(number, process_index=number // 2) for number in range(4))
    parallel = Parallel("pmap", devices)
    drawn = np.arange(10, 24).reshape(2, 7)
    shares = []
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares.append(parallel.own_rows(drawn))
    assert shares[0].tolist() == [[10, 11, 12, 13], [17, 18, 19, 20]]
    assert shares[1].tolist() == [[14, 15, 16, 10], [21, 22, 23, 17]], "the first row stands in for padding"


def test_images_that_do_not_fit_on_a_device(unchecked):
    device = Device(0, statistics={"bytes_limit": 12 * 2**30, "bytes_in_use": 2 * 2**30})
    device.platform = "gpu"
    parallel = Parallel("pmap", (device,))
    shape = (80_586, 224, 224, 3)
    message = (
        "data.placement = 'device' needs 12.47 GiB on gpu:0, for 80,586 images of 224 x 224 .11.30 GiB. and "
        "the state of the training, but 10.00 GiB are free; set data.placement=host"
    )
    with pytest.raises(ConfigError, match=message):
        parallel.check_room(shape, besides=1200 * 2**20)
    parallel.check_room((1000, *shape[1:]), besides=1200 * 2**20)


def test_devices_of_a_cpu_share_its_memory(monkeypatch, unchecked):
    monkeypatch.setattr(parallel_module, "free_bytes", lambda device: 3 * 2**20)
    parallel = Parallel("pmap", (Device(0), Device(1), Device(2), Device(3)))
    with pytest.raises(ConfigError, match="once for each of 4 devices that share its memory"):
        parallel.check_room((1, 512, 512, 4), besides=0)
    Parallel("pmap", (Device(0),)).check_room((1, 512, 512, 4), besides=0)


def test_this_machine_has_some_memory():
    assert 2**20 < free_bytes(jax.devices()[0]) < 2**50


def test_what_the_file_cache_would_give_back_is_free(monkeypatch, tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemFree:      1 kB\nMemAvailable:    3072 kB\n")
    monkeypatch.setattr(device_memory, "MEMINFO", told)
    assert free_bytes(jax.devices()[0]) == 3 * 2**20
    told.write_text("")
    assert free_bytes(jax.devices()[0]) > 2**20, "of another system, what is free without it"


def test_a_system_that_tells_no_free_memory_has_all_of_it(monkeypatch, tmp_path):
    """macOS has no such number: data.placement=device ended as a fault of this code."""
    monkeypatch.setattr(device_memory, "MEMINFO", tmp_path / "none")
    known = {"SC_PHYS_PAGES": 100, "SC_PAGESIZE": 4096}
    monkeypatch.setattr(os, "sysconf_names", known)
    monkeypatch.setattr(os, "sysconf", known.__getitem__)
    assert free_bytes(jax.devices()[0]) == 409_600
