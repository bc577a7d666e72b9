import functools
import io
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from gradrev_commands import cli
from gradrev_commands.cli import unknown_field
from gradrev_commands.plugins import load_plugins
from gradrev_jax.errors import ConfigError
from gradrev_jax.runs.config_check import check

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ConfigDict({"seed": 0, "train": {"epochs": 25, "decay_epochs": 10}})


def start(script, *arguments, cwd=ROOT, **environment):
    """Runs a script as a person does; a process of its own takes seconds."""
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def parsed(monkeypatch):
    """Parses a command line in this process, with flags of its own."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for module, name in (
        (flags, "DEFINE"),
        (config_flags, "DEFINE_config_file"),
        (flags, "mark_flag_as_required"),
    ):
        monkeypatch.setattr(module, name, functools.partial(getattr(module, name), flag_values=values))

    def parse(*arguments):
        # ml_collections finds the overrides in sys.argv, and reads --flagfile by the true FLAGS.
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        done = []
        monkeypatch.setattr(cli.app, "run", lambda main, flags_parser: done.append(flags_parser(sys.argv)))
        cli.run(lambda: None)
        return values

    return parse


def test_fields_that_exist_are_fine():
    arguments = ["--config=a.py", "--config.train.epochs=3", "-config.seed", "4", "--other.x=1", "word"]
    assert unknown_field(arguments, config=CONFIG) is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.train.epoch=3", "no field train.epoch; did you mean train.epochs or train.decay_epochs"),
        ("--config.epochs=3", "no field epochs; did you mean train.epochs"),
        ("--config.train=3", "no field train; did you mean"),
        ("--config.zzz=3", "no field zzz; configs/default.py has all there are"),
    ],
)
def test_an_unknown_field_is_named_with_its_nearest(argument, message):
    assert message in unknown_field([argument], config=CONFIG)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", ["--config.train.epoch=3"], "no field train.epoch; did you mean train.epochs"),
        ("train", ["--config.train.epochs=many"], "--config.train.epochs=many: invalid literal for int"),
        ("train", ["--config.train.epochs=0"], "train.epochs = 0: at least 1"),
        ("train", ["spare"], "unknown arguments: spare"),
        (
            "train",
            ["--config=configs/catalogue.py", "--config.data.image_size=64"],
            "--config is given twice, as configs/garments.py and as configs/catalogue.py; give one",
        ),
        ("evaluate", [], "is not a run of train.py: it has no config.json"),
        ("evaluate", ["--protocol.k=3"], "the protocol has no field k; did you mean ks"),
    ],
)
def test_what_cannot_run_says_why_in_one_message_and_writes_nothing(
    call, tmp_path, command, arguments, message
):
    config = ["--config=configs/garments.py"] if command == "train" else []
    ended = call(command, *config, f"--workdir={tmp_path / 'run'}", *arguments)
    assert ended.status == (4 if "is not a run" in message else 2)
    assert ended.err.startswith("error: ")
    assert message in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_scripts_end_with_a_message_and_a_status(tmp_path):
    """As a process of its own; in the others this one's parts are tested."""
    ended = start("evaluate.py", f"--workdir={tmp_path / 'run'}")
    assert ended.returncode == 4
    assert ended.stderr.startswith("error: ")
    assert "is not a run of train.py: it has no config.json" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.long
def test_on_windows_one_sentence_says_where_it_runs():
    """Windows has no fcntl, and no posix_fallocate."""
    windows = """
import os, runpy, sys
import jax  # which takes another file lock where there is no fcntl, and warns
sys.modules["fcntl"] = None
del os.posix_fallocate
import gradrev_commands.cli, gradrev_jax.evaluation.run, gradrev_jax.training.run
from absl.flags import FLAGS
sys.platform = "win32"
shared = set(FLAGS)
for script, *arguments in (["train.py", "--config=configs/garments.py"], ["evaluate.py"]):
    sys.argv = [script, "--workdir=run", *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        print(ended.code)
    for name in set(FLAGS) - shared:
        delattr(FLAGS, name)
"""
    result = subprocess.run([sys.executable, "-c", windows], cwd=ROOT, capture_output=True, text=True)
    sentence = "error: gradrev_jax trains and evaluates on Linux and macOS; on Windows, run it under WSL\n"
    assert (result.stdout, result.stderr) == (2 * "8\n", 2 * sentence)


def test_paths_are_expanded_and_made_absolute(parsed, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    read = cli.define_config()
    workdir = cli.define_folder("workdir", "", required=True, written=True)
    memory, extractor = cli.define_file("memory", ""), cli.define_file("extractor", "")
    fields = {"root": "images", "splits": "~/splits", "cache_dir": "~/cache", "tfds_dir": "../tfds"}
    fields["embeddings"] = "vectors.npz"
    parsed(
        "--config=configs/catalogue.py:cpu",
        *(f"--config.data.{name}={value}" for name, value in fields.items()),
        "--workdir=~/runs/x/",
        "--memory=~/m.pth",
    )
    data = read().data
    assert data.root == str(tmp_path / "images")
    assert data.splits == str(tmp_path / "splits")
    assert data.embeddings == str(tmp_path / "vectors.npz")
    assert data.cache_dir == str(tmp_path / "cache")
    assert pathlib.Path(data.tfds_dir).is_absolute()
    assert data.image_size == 96
    assert (workdir.value, memory.value, extractor.value) == (tmp_path / "runs/x", tmp_path / "m.pth", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/none.py", "--config.seed=1"], "--config=configs/none.py does not exist; "),
        (["--config=configs/catalog", "--config.seed=1"], "did you mean configs/catalogue.py?"),
        (["--config=configs/garments.py:x", "--config.seed=1"], "unknown word 'x' after the config's name"),
        (["--config.seed=1"], "--config.seed is given without a --config=FILE before it"),
        (["--config=configs/garments.py", "--config=configs/tfds.py", "--config.seed=1"], "given twice"),
        (
            ["--config=configs/garments.py", "--workdir=~nobodyhere/x"],
            "--workdir=~nobodyhere/x: there is no user",
        ),
        (["--config=configs/garments.py", "--workdir="], "--workdir is empty"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(parsed, capsys, arguments, message):
    cli.define_config()
    cli.define_folder("workdir", "")
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_command_prints_on_any_terminal(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    monkeypatch.setattr(cli.app, "run", lambda main, flags_parser: print("runs/ü"))
    cli.run(lambda: None)
    assert written.getvalue() == b"runs/\\xfc\n"


def test_the_current_folder_may_have_been_removed(parsed, tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit):
        parsed()
    assert capsys.readouterr().err.startswith("error: the current folder has been removed")


def test_the_next_command_can_be_pasted_wherever_this_one_was_called(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert cli.command_line("evaluate", "--workdir=my runs/a") == "python evaluate.py '--workdir=my runs/a'"
    monkeypatch.chdir(tmp_path)
    assert cli.command_line("evaluate") == f"python {ROOT / 'evaluate.py'}"


def test_from_a_folder_with_configs_of_its_own(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").touch()
    (tmp_path / "configs" / "default.py").touch()
    fields = "data.count=60 data.test_fraction=0.4 protocol.ks=(1,5)".split()
    ended = start(
        *(str(ROOT / "train.py"), "--config=garments", "--workdir=run"),
        *(f"--config.{field}" for field in fields),
        cwd=tmp_path,
        JAX_PLATFORMS="cuda",
        PYTHONPATH=str(tmp_path),
    )
    assert ended.stderr.startswith("error: JAX_PLATFORMS=cuda is set, but JAX finds no such device here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["configs"]


@pytest.mark.long
def test_help_lists_the_flags_of_a_command_without_the_fields_of_configs():
    ended = start("evaluate.py", "--help")
    assert ended.returncode == 0
    shown = ended.stdout
    assert shown.startswith("Evaluates a run: gradrev-evaluate --workdir=runs/garments.\n")
    for flag in (
        "--workdir",
        "--step",
        "--protocol",
        "--data",
        "--coordinator",
        "--process_id",
        "--[no]debug",
    ):
        assert f"\n  {flag}: " in shown
    assert len(shown.splitlines()) < 40


@pytest.mark.slow
def test_every_command_starts_from_any_folder(tmp_path):
    safe = {"cwd": tmp_path, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    for arguments, message in (
        ([str(ROOT / "evaluate.py"), "--workdir=run"], "run is not a run of train.py"),
        ([str(ROOT / "generate_splits.py"), "--config=configs/none.py", "--out=x"], "none.py does not exist"),
        (["-m", "gradrev_commands.export_torch", "--workdir=run", "--out=x"], "run is not a run of train.py"),
        (["-m", "gradrev_commands.compare", "run"], "run is not a run of train.py"),
        (["-m", "gradrev_commands.compare", "a=~nobodyhere/x"], "there is no user 'nobodyhere'"),
        (["-m", "gradrev_commands.prepare_shopping100k", "--manual_dir=~nobodyhere"], "there is no user"),
    ):
        result = start(*arguments, **safe)
        assert result.stderr.startswith("error: "), result.stderr
        assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_none_unsets_an_optional_field(parsed):
    read = cli.define_config()
    fields = ("data.train_resize", "train.clip_norm", "model.pretrained")
    parsed("--config=configs/catalogue.py:cpu", *(f"--config.{name}=None" for name in fields))
    config = read()
    assert (config.data.train_resize, config.train.clip_norm, config.model.pretrained) == (None, None, None)


def test_none_is_no_value_of_other_fields(parsed):
    read = cli.define_config()
    parsed("--config=configs/garments.py", "--config.data.cache_dir=None", "--config.train.epochs=None")
    with pytest.raises(
        ConfigError, match=r"(?s)cache_dir = None: a value, such as ''.*epochs = None: a value"
    ):
        check(read())


def test_plugins_are_imported_before_the_command_line_is_read(parsed, monkeypatch, tmp_path):
    code = "from gradrev_jax.systems import registry\nPLACE = registry.__name__\n"
    (tmp_path / "my_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GRADREV_PLUGINS", "my_plugin")
    parsed()
    assert sys.modules.pop("my_plugin").PLACE == "gradrev_jax.systems.registry"
    (tmp_path / "my_plugin.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match="GRADREV_PLUGINS: division by zero"):
        load_plugins()


def test_garbage_collections_leave_out_what_was_imported():
    command = "import gc; from gradrev_commands import cli; cli.run(lambda: print(gc.get_freeze_count()))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert int(done.stdout) > 10_000, done.stderr
