import json
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.errors import CheckpointError
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.training.saved_state import has_checkpoint

# Reads of other files of a damaged checkpoint may end after Orbax has closed its event loop, in a thread of
# tensorstore's, where nobody can catch that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def items(value):
    return {
        "params": {"w": jnp.full((300, 200), float(value)), "b": jnp.zeros(3)},
        "rest": {"step": jnp.int32(value)},
    }


def test_keeps_the_latest_two_and_the_best(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest_step is None
        assert checkpoints.best_step is None
        for step, accuracy in enumerate([0.1, 0.5, None, 0.3, 0.2, None], start=1):
            checkpoints.save(step, items(step), score=accuracy)
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert checkpoints.steps == (2, 5, 6)
        assert checkpoints.latest_step == 6
        assert checkpoints.best_step == 2
        restored = checkpoints.restore(2, items(0))
        np.testing.assert_array_equal(restored["params"]["w"], items(2)["params"]["w"])
        assert restored["rest"]["step"] == 2
        # One item alone, by shapes alone.
        shapes = jax.eval_shape(lambda: items(0)["params"])
        assert checkpoints.restore(6, {"params": shapes})["params"]["w"][0, 0] == 6


@pytest.mark.parametrize("gone", [(), ("metrics/metrics",), ("_CHECKPOINT_METADATA", "params")])
def test_what_a_killed_process_would_have_removed_is_removed_at_the_next_start(tmp_path, gone):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, items(1), score=0.1)
        checkpoints.close()
        shutil.copytree(tmp_path / "c" / "step_1", tmp_path / "copy")
    with Checkpoints(tmp_path / "c") as checkpoints:
        for step, score in ((2, 0.5), (3, 0.3)):
            checkpoints.save(step, items(step), score=score)
    shutil.copytree(tmp_path / "copy", tmp_path / "c" / "step_1")
    (tmp_path / "c" / "removed" / "step_0").mkdir(parents=True)
    for name in gone:
        path = tmp_path / "c" / "step_1" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.steps == (2, 3)
        assert checkpoints.best_step == 2
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step_2", "step_3"]


def test_an_old_checkpoint_is_moved_before_it_is_removed(tmp_path, monkeypatch):
    """So that a process that is killed meanwhile leaves none in part."""
    monkeypatch.setattr("gradrev_jax.runs.old_checkpoints.shutil.rmtree", lambda *paths, **options: None)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
        checkpoints.close()
        whole = sorted(path.relative_to(tmp_path / "step_1") for path in tmp_path.glob("step_1/**/*"))
    with Checkpoints(tmp_path) as checkpoints:
        for step in (2, 3):
            checkpoints.save(step, items(step))
    removed = tmp_path / "removed" / "step_1"
    assert not (tmp_path / "step_1").exists()
    assert sorted(path.relative_to(removed) for path in removed.glob("**/*")) == whole


def test_without_any_accuracy_the_latest_is_the_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
        checkpoints.save(2, items(2))
        assert checkpoints.best_step == 2


def test_a_step_that_is_there_is_not_written_again(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
        checkpoints.save(1, items(5))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(1, items(0))["rest"]["step"] == 1


def test_arrays_may_be_donated_while_they_are_written(tmp_path):
    advance = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = {"w": jnp.zeros((1500, 1500))}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 4):
            state = advance(state)
            checkpoints.save(step, {"params": state}, score=float(step == 2))
            for _ in range(3):
                state = advance(state)
            state = jax.tree.map(lambda leaf: leaf - 3, state)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for step in (2, 3):
            w = checkpoints.restore(step, {"params": state})["params"]["w"]
            assert w.min() == w.max() == step


def test_another_models_shapes(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
        wrong = {"params": {"w": jnp.zeros((3, 3)), "b": jnp.zeros(3)}}
        with pytest.raises(CheckpointError, match=r"params/extra is missing there, \(1,\) here"):
            checkpoints.restore(1, {"params": {**items(1)["params"], "extra": jnp.zeros(1)}})
        with pytest.raises(
            CheckpointError, match=r"cannot read step 1 of .*: params/w is \(300, 200\) there, \(3, 3\) here"
        ):
            checkpoints.restore(1, wrong)


@pytest.mark.parametrize("item", ["params", "rest"])
def test_a_checkpoint_without_its_metadata_is_named_with_its_folder(tmp_path, item):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
        checkpoints.save(2, items(2))
    (tmp_path / "step_2" / item / "_METADATA").unlink()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        # Earlier versions of Orbax raise in words of their own.
        with pytest.raises(CheckpointError, match=rf"(?i)metadata .*{item}.*\n") as error:
            checkpoints.restore(2, items(0))
        assert f"remove its folder, {tmp_path / 'step_2'}, to fall back" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer, "),
    ],
)
@pytest.mark.parametrize("file", ["params/_METADATA", "params/manifest.ocdbt", "metrics/metrics"])
def test_a_file_of_a_checkpoint_that_was_emptied_is_named(tmp_path, file, content, message):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1), score=0.5)
    (tmp_path / "step_1" / file).write_bytes(content)

    def read():
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            checkpoints.restore(1, items(0))

    with pytest.raises(CheckpointError) as error:
        read()
    assert f"{tmp_path / 'step_1' / file} {message}" in str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist; train first"):
        Checkpoints(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


def script(body):
    return [sys.executable, "-c", textwrap.dedent(body)]


def test_a_process_killed_while_writing_leaves_the_last_whole_one(tmp_path):
    writer = subprocess.Popen(
        script(f"""
            import pathlib, jax.numpy as jnp
            from gradrev_jax.runs.checkpoints import Checkpoints
            with Checkpoints(pathlib.Path({str(tmp_path)!r})) as checkpoints:
                for step in range(1, 1000):
                    checkpoints.save(step, {{"params": {{"w": jnp.full((1500, 1500), float(step))}}}})
                    print(step, flush=True)
        """),
        stdout=subprocess.PIPE,
        text=True,
    )
    while int(writer.stdout.readline()) < 3:
        pass
    time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    with Checkpoints(tmp_path) as checkpoints:
        step = checkpoints.latest_step
        assert step >= 2
        w = checkpoints.restore(step, {"params": {"w": jnp.zeros((1500, 1500))}})["params"]["w"]
        assert w.min() == w.max() == step
        checkpoints.save(step + 1000, {"params": {"w": w}})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"step_{step}", f"step_{step + 1000}"}, "no debris"


def test_a_full_disk_is_one_clear_message_and_costs_no_earlier_checkpoint(tmp_path):
    """RLIMIT_FSIZE makes large writes fail as a full disk does."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
    result = subprocess.run(
        script(f"""
            import pathlib, resource, numpy as np, jax.numpy as jnp
            from gradrev_jax.runs.checkpoints import Checkpoints
            noise = jnp.asarray(np.random.default_rng(0).normal(size=(1500, 1500)))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
            try:
                with Checkpoints(pathlib.Path({str(tmp_path)!r})) as checkpoints:
                    checkpoints.save(2, {{"params": {{"w": noise}}}})
            except Exception as error:
                print(type(error).__name__, error)
        """),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("CheckpointError cannot write")
    assert "MiB are free there" in result.stdout
    assert "start again with the same --workdir" in result.stdout
    with Checkpoints(pathlib.Path(tmp_path)) as checkpoints:
        assert checkpoints.steps == (1,)
        assert checkpoints.restore(1, items(0))["rest"]["step"] == 1


def bytes_flipped(folder, *, of, length=64):
    """Flips bytes in the middle of the largest file of an item."""
    path = max((folder / of).rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + length] = bytes(255 - each for each in content[middle : middle + length])
    path.write_bytes(content)


def noise(step):
    """Items that do not compress, so that a flipped byte is one of an array."""
    rng = np.random.default_rng(step)
    return {"params": {"w": jnp.asarray(rng.normal(size=(300, 200)))}, "rest": {"step": jnp.int32(step)}}


def truncated(folder):
    path = max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "flipped": lambda folder: bytes_flipped(folder, of="params"),
    "truncated": truncated,
    "an item is missing": lambda folder: shutil.rmtree(folder / "rest"),
    "a file is missing": lambda folder: (folder / "params" / "_METADATA").unlink(),
    "emptied": lambda folder: (folder / "params" / "manifest.ocdbt").write_bytes(b""),
    "renamed leaf": lambda folder: (folder / "params" / "_METADATA").write_text(
        (folder / "params" / "_METADATA").read_text().replace("'w'", "'v'").replace('"w"', '"v"')
    ),
    "nothing but the folder": lambda folder: [
        shutil.rmtree(path) if path.is_dir() else path.unlink() for path in folder.iterdir()
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_taken(tmp_path, capsys, damage):
    directory = tmp_path / "c"
    with Checkpoints(directory) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, noise(step))
    DAMAGES[damage](directory / "step_3")
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(noise(0))["rest"]["step"] == 2
        said = capsys.readouterr().err
        assert said.startswith(f"note: the checkpoint {directory / 'step_3'} is damaged (")
        assert "tensorstore_spec" not in said
        assert said.endswith(f" lies in {directory / 'damaged' / 'step_3'} now; going on from step 2\n")
        assert checkpoints.steps == (2,)
        checkpoints.save(3, noise(3))
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore_latest(noise(0))["rest"]["step"] == 3
        DAMAGES[damage](directory / "step_3")
        assert checkpoints.restore_latest(noise(0))["rest"]["step"] == 2
    assert [path.name for path in (directory / "damaged").iterdir()] == ["step_3"]


def test_without_another_checkpoint_nothing_is_moved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, noise(1))
        checkpoints.save(2, noise(2))
        checkpoints._wait()
        for step in (1, 2):
            bytes_flipped(tmp_path / f"step_{step}", of="params")
        with pytest.raises(CheckpointError, match="cannot read step 2 of .*not those that were written: par"):
            checkpoints.restore_latest(noise(0))
        assert checkpoints.steps == (1, 2)


def test_another_model_and_a_lack_of_memory_are_no_damage(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1))
        checkpoints.save(2, items(2))
        with pytest.raises(CheckpointError, match="of another model"):
            checkpoints.restore_latest({**items(0), "params": {"w": jnp.zeros((3, 3)), "b": jnp.zeros(3)}})

        def fail(*arguments, **options):
            raise MemoryError

        monkeypatch.setattr(checkpoints._manager, "restore", fail)
        with pytest.raises(CheckpointError, match="cannot read step 2 of .*: MemoryError$"):
            checkpoints.restore_latest(items(0))
        assert checkpoints.steps == (1, 2)


def test_checkpoints_of_earlier_versions_have_no_digests(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1), score=0.5)
    path = tmp_path / "step_1" / "_CHECKPOINT_METADATA"
    content = json.loads(path.read_text())
    assert content["custom_metadata"].pop("digests")["params/b"] == ["float32", [3], zlib.crc32(bytes(12))]
    path.write_text(json.dumps(content))
    (tmp_path / "step_1" / "metrics" / "metrics").write_text('{"score": 0.5}')
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step == 1
        assert checkpoints.restore_latest(items(0))["rest"]["step"] == 1


def test_a_score_that_comes_later_counts(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1), score=0.3)
        checkpoints.save(2, items(2))
        assert (checkpoints.has_score(1), checkpoints.has_score(2)) == (True, False)
        checkpoints.add_score(2, 0.9)
        assert checkpoints.has_score(2)
        for step in (3, 4, 5):
            checkpoints.save(step, items(step), score=0.1)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert (checkpoints.steps, checkpoints.best_step) == ((2, 4, 5), 2)


@pytest.mark.parametrize("content", ["{", '{"other": 1}', '{"score": "high"}', "[]"])
def test_damaged_scores_are_one_kind_of_error(tmp_path, content):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1), score=0.5)
    (path,) = tmp_path.rglob("metrics/metrics")
    path.write_text(content)
    with (
        pytest.raises(CheckpointError, match=f"cannot (open|read the scores of) {tmp_path}"),
        Checkpoints(tmp_path, read_only=True) as checkpoints,
    ):
        _ = checkpoints.best_step


def test_of_equal_scores_the_last_is_the_best_and_the_first_says_since_when(tmp_path):
    """Found by use: a plateau never ended a stage, because each equal score was a new best."""
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.first_best_step is None
        for step, score in enumerate([0.1, 0.5, 0.5, None, 0.5, 0.2, 0.2], start=1):
            checkpoints.save(step, items(step), score=score)
            assert checkpoints.first_best_step == min(step, 2)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.steps == (2, 5, 6, 7)
        assert (checkpoints.first_best_step, checkpoints.best_step) == (2, 5)


@pytest.mark.parametrize(
    "look",
    [
        lambda folder: Checkpoints(folder / "checkpoints" / "encoder", read_only=True),
        lambda folder: has_checkpoint(folder, "encoder"),
    ],
)
def test_checkpoints_that_may_not_be_read_are_named(tmp_path, monkeypatch, look):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "is_dir", refuse)
    with pytest.raises(CheckpointError, match="encoder cannot be read: Permission denied"):
        look(tmp_path)
