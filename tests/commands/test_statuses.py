"""Each kind of error, in each command that can meet it: its status, in one message."""

import importlib
import pathlib
import re

import pytest

from configs import garments
from gradrev_jax.errors import CheckpointError, DivergedError, UserError
from gradrev_jax.runs import builders, workdir

ROOT = pathlib.Path(__file__).parents[2]
RUN, NONE, OUT = "--workdir=RUN", "--workdir=NONE", "--out=OUT"
FIELDS = "data.count=60 data.test_fraction=0.4 train.batch_size=8 protocol.ks=(1,5)".split()
GARMENTS = ("--config=garments", *(f"--config.{field}" for field in FIELDS))
TRAIN = ("train", *GARMENTS)
TINY_MODEL = ("--config.model.width=0.03", "--config.model.feature_dim=4")
IMPORT = ("import_torch", *GARMENTS, *TINY_MODEL)
CASES = [
    # status, what it says, the command, its arguments
    (2, "Pass --help to see the flags", "train", "--config=garments", "--worddir=x"),
    (2, "train.epochs = 0: at least 1", *TRAIN, "--config.train.epochs=0", NONE),
    (2, "--workdir=FILE: this is not a folder", *TRAIN, "--workdir=FILE"),
    (3, "NOWHERE does not exist", "train", "--config=catalogue", "--config.data.root=NOWHERE", NONE),
    (4, "started with another config", *TRAIN, RUN),
    (6, "FILE", *TRAIN, "--config.model.pretrained=FILE", NONE),
    (2, "the protocol has no field k", "evaluate", RUN, "--protocol.k=3"),
    (4, "NONE is not a run of train.py", "evaluate", NONE),
    (5, "train first", "evaluate", RUN, "--step=12345"),
    (2, "there is no user", "compare", "a=~nobodyhere/x"),
    (4, "NONE is not a run of train.py", "compare", "NONE"),
    (2, "does not exist", "generate_splits", "--config=configs/none.py", OUT),
    (2, "lie in no files of their own", "generate_splits", *GARMENTS, OUT),
    (2, "extractor", *IMPORT, NONE),
    (6, "FILE", *IMPORT, "--extractor=FILE", NONE),
    (4, "NONE is not a run of train.py", "export_torch", NONE, OUT),
    (5, "train first", "export_torch", RUN, "--step=12345", OUT),
    (6, "exists already", "export_torch", RUN, "--out=RUN"),
    (2, "there is nothing to do", "export_model", OUT),
    (4, "exists already", "export_model", RUN, "--out=RUN"),
    (5, "train first", "export_model", RUN, "--step=12345", OUT),
    (2, "there is no user", "prepare_shopping100k", "--manual_dir=~nobodyhere"),
    (3, "FILE cannot be used", "image_cache", "--cache_dir=FILE"),
    (2, "engine", "index", RUN, "--engine=other:x"),
    (4, "NONE is not a run of train.py", "index", NONE, "--engine=milvus:OUT.db"),
    (2, "has no equals sign", "search", RUN, "--item=0", "--change=red"),
    (4, "NONE is not a run of train.py", "search", NONE, "--item=0"),
    (2, "no_such_host", "serve", RUN, "--host=no_such_host"),
    (4, "NONE is not a run of train.py", "serve", NONE, "--port=0"),
]
CALLED = {  # what each command calls, and the least that it must be given
    "train": ("train", *GARMENTS, NONE),
    "evaluate": ("evaluate", NONE),
    "compare": ("read_systems", "NONE"),
    "generate_splits": ("check", "--config=garments", OUT),
    "import_torch": ("import_run", "--config=garments", "--extractor=FILE", NONE),
    "export_torch": ("export_run", NONE, OUT),
    "export_model": ("export_model", NONE, OUT),
    "prepare_shopping100k": ("prepare_shopping100k", "--manual_dir=NONE"),
    "image_cache": ("report",),
    "index": ("index_run", NONE, "--engine=milvus:x.db"),
    "search": ("parse_assignment", NONE, "--item=0", "--change=a=b"),
    "serve": ("naming", NONE),
}
RAISED = {  # by their statuses, in part what some part of any command may raise
    1: [TypeError("wrong"), KeyError("wrong"), MemoryError("wrong"), OSError(5, "wrong", "file")],
    5: [CheckpointError("wrong")],
    7: [DivergedError("wrong")],
    8: [UserError("wrong")],
}


@pytest.fixture
def ask(call, tmp_path, cache_dir):
    """Calls a command with a run without checkpoints, a file of no format, and paths where nothing is."""
    names = {"FILE": "file.pth", "NONE": "none", "OUT": "out", "RUN": "run"}
    paths = {name: tmp_path / path for name, path in names.items()}
    paths["FILE"].write_bytes(b"of no format")
    config = garments.get_config()
    config.data.update({"count": 60, "test_fraction": 0.4, "cache_dir": str(cache_dir)})
    config.protocol.ks = (1, 5)
    workdir.write_json(paths["RUN"] / workdir.CONFIG, config.to_dict())
    workdir.claim_schema(paths["RUN"], builders.open_catalogue(config).schema)

    def ask(command, *arguments):
        filled = [
            re.sub(r"\b(FILE|NONE|OUT|RUN)\b", lambda found: str(paths[found[0]]), argument)
            for argument in arguments
        ]
        ended = call(command, *filled)
        said = ended.err
        for name, path in paths.items():
            said = said.replace(str(path), name)
        assert "Traceback" not in said
        return ended._replace(err=said), sorted(path.name for path in tmp_path.iterdir())

    return ask


@pytest.mark.parametrize(
    ("status", "message", "command", "arguments"),
    [(status, message, command, arguments) for status, message, command, *arguments in CASES],
    ids=[f"{command} {status} {message[:16]}" for status, message, command, *_ in CASES],
)
def test_each_error_has_its_status_says_what_and_leaves_nothing(ask, status, message, command, arguments):
    ended, left = ask(command, *arguments)
    assert ended.status == status, ended.err
    assert "error: " in ended.err
    assert message in ended.err
    assert left == ["file.pth", "run"]


def test_every_command_is_here():
    modules = {
        path.stem for path in (ROOT / "gradrev_commands").glob("*.py") if "cli.run" in path.read_text()
    }
    assert set(CALLED) == modules == {command for _, _, command, *_ in CASES}


@pytest.mark.parametrize("command", CALLED)
def test_every_command_ends_as_what_it_calls_has_failed(ask, monkeypatch, command):
    called, *arguments = CALLED[command]
    module = importlib.import_module(f"gradrev_commands.{command}")
    for status, errors in RAISED.items():
        for error in errors:

            def fail(*given, error=error, **options):
                raise error

            monkeypatch.setattr(module, called, fail)
            ended, _ = ask(command, *arguments)
            assert (ended.status, ended.out) == (status, "")
            assert ended.err.startswith("error: ")
            assert "wrong" in ended.err.splitlines()[0]
            assert len(ended.err.splitlines()) == (1 if status > 1 else 2)
