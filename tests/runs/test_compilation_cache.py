"""Programs are kept from one start to the next, and nothing that befalls their folder stops a run."""

import builtins
import io
import json
import os
import pathlib
import threading
import warnings
import zlib

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from gradrev_jax.runs import compilation_cache as programs
from gradrev_jax.runs import workdir
from gradrev_jax.runs.compilation_cache import cache_of_run, programs_folder, use_compilation_cache
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.training.run import train

JAX_PATH = type(jax._src.path.Path("/"))
NAMES = (programs.DIRECTORY, programs.ENABLED, *programs.SETTINGS)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """JAX without a cache, as a command finds it, and a cache folder of the user's for this test alone."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(programs, "QUIET_SINCE", (0,))

    def restart():
        compilation_cache.reset_cache()
        jax.config.update(programs.DIRECTORY, None)

    with warnings.catch_warnings():
        restart()
        yield restart
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def double(number=np.float32(3)):  # noqa: B008
    """Doubles a number by a function that is compiled anew, or read from the cache, each time."""

    @jax.jit
    def double(x):
        return 2 * x

    return np.asarray(double(number))


def test_a_jax_that_is_loud_about_it_keeps_programs_only_where_it_is_asked_to(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "QUIET_SINCE", (99,))
    use_compilation_cache(None)
    assert getattr(jax.config, programs.DIRECTORY) is None
    use_compilation_cache(str(tmp_path / "given"))
    assert getattr(jax.config, programs.DIRECTORY) == str(programs_folder(str(tmp_path / "given")))


def compiled():
    """Calls the function; returns the number of programs that were compiled and not read from the cache."""
    events = []

    def count(name, **_):
        events.append(name.rpartition("/")[-1])

    jax.monitoring.register_event_listener(count)
    try:
        assert double() == 6
    finally:
        jax._src.monitoring.unregister_event_listener(count)
    return events.count("compile_requests_use_cache") - events.count("cache_hits")


def kept(folder=None):
    """The files of the programs that are kept."""
    return sorted((folder or programs_folder()).glob("jit_double-*"))


def test_a_program_is_compiled_once_for_all_starts(fresh, monkeypatch):
    use_compilation_cache(None)
    assert compiled() == 1
    fresh()
    use_compilation_cache(None)
    assert compiled() == 0
    assert len(kept()) == 1
    assert programs_folder().stat().st_mode & 0o777 == 0o700


def test_a_path_moves_the_cache_and_none_turns_it_off(fresh, tmp_path):
    use_compilation_cache("")
    double()
    assert not (tmp_path / "caches").exists()
    use_compilation_cache(str(tmp_path / "mine"))
    double()
    assert len(kept(programs_folder(str(tmp_path / "mine")))) == 1
    assert not (tmp_path / "caches").exists()


def test_a_cache_that_the_environment_has_chosen_remains(fresh, tmp_path):
    jax.config.update(programs.DIRECTORY, str(tmp_path / "chosen"))
    use_compilation_cache(str(tmp_path / "mine"))
    assert getattr(jax.config, programs.DIRECTORY) == str(tmp_path / "chosen")
    assert not (tmp_path / "mine").exists()


def test_settings_of_the_environment_remain(fresh, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "12345")
    before = jax.config.jax_compilation_cache_max_size
    use_compilation_cache(None)
    assert jax.config.jax_compilation_cache_max_size == before
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


def test_machines_with_other_processors_share_no_program(monkeypatch):
    folders = {programs_folder("/programs")}
    processors = "flags : sse avx", "flags : sse avx avx512f", "Features : asimd", ""
    for text in processors:
        with monkeypatch.context() as patch:
            text = f"processor : 0\ncpu MHz : 2000\n{text}\n\nprocessor : 1\n"
            patch.setattr(builtins, "open", lambda *_, text=text, **__: io.StringIO(text))
            folders.add(programs_folder("/programs"))
            patch.setattr(
                builtins, "open", lambda *_, text=text, **__: io.StringIO(text.replace("2000", "3100"))
            )
            folders.add(programs_folder("/programs"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(77), raising=False)
    folders.add(programs_folder("/programs"))
    assert len(folders) == 2 + len(processors)
    assert {folder.parent for folder in folders} == {pathlib.Path("/programs")}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-10],
        lambda content: b"",
        lambda content: b"?" * 99,
        lambda content: zlib.compress(b"no program"),
    ],
)
def test_a_damaged_program_is_compiled_and_kept_anew(fresh, monkeypatch, damage, capsys):
    use_compilation_cache(None)
    compiled()
    (entry,) = kept()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    fresh()
    use_compilation_cache(None)
    assert compiled() == 1
    assert len(entry.read_bytes()) > 0.9 * len(whole)
    fresh()
    use_compilation_cache(None)
    assert compiled() == 0
    assert capsys.readouterr().err == ""


def test_only_the_damaged_one_of_several_programs_is_compiled_anew(fresh):
    use_compilation_cache(None)
    double(np.float32(3)), double(np.ones(2, np.float32))
    other, damaged = sorted(kept(), key=lambda path: path.stat().st_mtime_ns)
    damaged.write_bytes(damaged.read_bytes()[:100])
    stamp = other.stat().st_mtime_ns
    fresh()
    use_compilation_cache(None)
    double(np.ones(2, np.float32))
    assert damaged.stat().st_size > 100
    assert other.stat().st_mtime_ns == stamp


@pytest.mark.long
def test_programs_may_be_read_while_others_write_them_or_are_killed(fresh, capsys):
    use_compilation_cache(None)
    compiled()
    (entry,) = kept()
    whole, is_over = entry.read_bytes(), threading.Event()

    def write():
        for length in np.random.default_rng(0).integers(len(whole), size=10**9):
            if is_over.is_set():
                return
            entry.write_bytes(whole[:length])
            entry.write_bytes(whole)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            fresh()
            use_compilation_cache(None)
            compiled()
    finally:
        is_over.set()
        writer.join()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("name", "limit"), [("MOST_PROGRAMS", 2), ("MOST_BYTES", 25)])
def test_those_unused_for_longest_go_where_there_are_too_many(fresh, monkeypatch, name, limit):
    folder = programs_folder()
    folder.mkdir(mode=0o700, parents=True)
    for age in range(5):
        (folder / f"jit_f-{age}-cache").write_bytes(b"0123456789")
        os.utime(folder / f"jit_f-{age}-cache", (1e9 - age, 1))
        (folder / f"jit_f-{age}-atime").touch()
    monkeypatch.setattr(programs, name, limit)
    use_compilation_cache(None)
    assert sorted(path.name for path in folder.glob("*-cache")) == ["jit_f-0-cache", "jit_f-1-cache"]
    assert len(list(folder.glob("*-atime"))) == 2


def no_home(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(
        pathlib.Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home"))
    )


def no_room(monkeypatch, tmp_path):
    def mkdir(path, *arguments, **named):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", mkdir)


def a_file(monkeypatch, tmp_path):
    (tmp_path / "caches").write_text("")


def of_others(monkeypatch, tmp_path):
    programs_folder().mkdir(parents=True)
    programs_folder().chmod(0o777)


def of_another_user(monkeypatch, tmp_path):
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)


def read_only(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)


@pytest.mark.parametrize(
    ("befall", "reason"),
    [
        (no_home, "no home folder"),
        (no_room, "No space left on device"),
        (a_file, "Not a directory"),
        (of_others, "others may write to"),
        (of_another_user, "others may write to"),
        (read_only, "may not write to"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_note(fresh, befall, reason, monkeypatch, tmp_path, capsys):
    with monkeypatch.context() as patch:
        befall(patch, tmp_path)
        use_compilation_cache(None)
    assert double() == 6
    said = capsys.readouterr().err
    assert said.startswith("note: compiled programs are not kept: ")
    assert reason in said
    assert said.count("\n") == 1
    assert getattr(jax.config, programs.DIRECTORY) is None


@pytest.mark.parametrize("method", ["read_bytes", "write_bytes"])
def test_a_disk_that_fails_meanwhile_is_one_note(fresh, method, monkeypatch, capsys):
    use_compilation_cache(None)
    if method == "read_bytes":
        compiled()
        fresh()
        use_compilation_cache(None)
    before, tried = kept(), []

    def fail(*arguments):
        tried.append(arguments)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(JAX_PATH, method, fail)
        for _ in range(3):
            assert double() == 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"no longer kept in {programs_folder()}: OSError: [Errno 28] No space" in said
    assert len(tried) == 1
    assert kept() == before  # a program that could not be read is not taken for damaged


def test_other_warnings_are_shown_as_before(fresh, monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: shown.append(str(message)))
    use_compilation_cache(None)
    with warnings.catch_warnings(action="always"):
        warnings.warn("something else", UserWarning, stacklevel=1)
        warnings.warn("Error reading persistent compilation cache", UserWarning, stacklevel=1)
    assert shown == ["something else", "Error reading persistent compilation cache"]


def test_a_run_says_where_its_programs_are_and_a_shared_model_does_not(tmp_path):
    config = json.loads(json.dumps(default_config().to_dict())) | {"compilation_cache": "/mine"}
    path = tmp_path / workdir.CONFIG
    path.write_text(json.dumps(config))
    assert cache_of_run(tmp_path) == "/mine"
    del config["compilation_cache"]
    path.write_text(json.dumps(config))
    assert workdir.read_config(tmp_path)["compilation_cache"] is None
    assert cache_of_run(tmp_path) is None
    path.write_text("no JSON")
    assert cache_of_run(tmp_path) is None


@pytest.mark.long
def test_a_program_from_the_cache_computes_the_same_bits(fresh, tiny_config, small_backbone, tmp_path):
    tiny_config.model.backbone = small_backbone
    tiny_config.train.max_steps = 2
    first = train(tiny_config, tmp_path / "compiled", progress=False)
    use_compilation_cache(None)
    states = []
    for name in ("kept", "read"):
        jax.clear_caches()
        states.append(train(tiny_config, tmp_path / name, progress=False))
        assert list(programs_folder().glob("jit__take_steps-*-cache"))
    for state in states:
        jax.tree.map(np.testing.assert_array_equal, state, first)
