"""Models of strangers: damaged, foreign, or made to do harm."""

import json
import shutil
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from gradrev_jax import Retriever
from gradrev_jax.errors import UserError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs.model_file import MODEL_FILE

WATCHED = []  # the files that are opened while a test watches; a hook stays as long as the process
sys.addaudithook(lambda event, arguments: WATCHED and event == "open" and WATCHED.append(str(arguments[0])))


@pytest.fixture
def model(small_model, tmp_path):
    """A copy of a model, to be damaged."""
    return shutil.copytree(small_model, tmp_path / "model", ignore=shutil.ignore_patterns("serving"))


def refusal(model, **options):
    """The message that opening a model ends with."""
    with pytest.raises(UserError) as caught:
        Retriever.open(model, progress=False, **options)
    return str(caught.value)


def change(model, changes, metadata=None):
    """Writes other tensors into a model; None takes one out."""
    with safetensors.safe_open(model / MODEL_FILE, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = {**file.metadata(), **(metadata or {})}
    tensors = {name: each for name, each in {**tensors, **changes}.items() if each is not None}
    (model / MODEL_FILE).write_bytes(safetensors.numpy.save(tensors, metadata=about))


def rewrite(path, **fields):
    content = json.loads(path.read_text())
    for name, value in fields.items():
        section, _, field = name.partition("__")
        (content[section] if field else content)[field or section] = value
    path.write_text(json.dumps(content))


@pytest.mark.long
def test_a_model_cut_short_is_refused(model):
    content = (model / MODEL_FILE).read_bytes()
    for length in (0, 1, 9, 100, 2000, len(content) // 2, len(content) - 1):
        (model / MODEL_FILE).write_bytes(content[:length])
        assert f"{model / MODEL_FILE} is cut short" in refusal(model)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("encoder/params/heads/bias", None, "1 missing, as encoder/params/heads/bias"),
        ("encoder/params/heads/bias", np.zeros(2, np.float32), "encoder/params/heads/bias is (2,) F32"),
        ("encoder/params/other", np.zeros(2, np.float32), "1 unknown, as encoder/params/other"),
        ("backbone/params/Dense_0/bias", None, "1 missing, as backbone/params/Dense_0/bias"),
        ("backbone/params/Dense_0/bias", np.full(16, np.nan, np.float32), "not finite in backbone/params"),
        ("memory", np.zeros((27, 6, 5), np.float32), "memory is (27, 6, 5) F32"),
        ("memory", None, "1 missing, as memory"),
        ("space/memory", None, "holds no search space that can be read"),
        ("space/memory", np.zeros((27, 5, 4), np.float32), "holds no search space that can be read"),
        ("space/memory", np.full((27, 6, 4), np.inf, np.float32), "not all numbers are finite"),
        ("space/memory", np.zeros((27, 6, 7), np.float32), "holds no search space that can be read"),
        ("foreign", np.zeros(2, np.float32), "1 unknown, as foreign"),
    ],
)
def test_other_tensors_are_refused(model, name, array, message):
    change(model, {name: array})
    found = refusal(model)
    assert message in found
    assert str(model / MODEL_FILE) in found


def test_a_space_of_another_width_does_not_fit_the_encoder(model):
    arrays = {"space/memory": np.zeros((27, 6, 7), np.float32), "space/absent": np.zeros((6, 7), np.float32)}
    change(model, arrays)
    assert "has a search space for (6, 7), and its encoder gives (6, 4)" in refusal(model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strength": float("nan")}, "strength and look are nan"),
        ({"strength": "x"}, "holds no search space"),
        ({"look": float("inf")}, "strength and look are"),
        ({"representation": "evil"}, "representation is 'evil'"),
        ({"representation": "posterior"}, "has the search space of another config or schema"),
        ({"missing": "ignore"}, "has the search space of another config or schema"),
        ({"normalize": ["global"]}, "holds no search space"),
        ({"attributes": {"a": ["b"]}}, "holds no search space"),
        ({"attributes": 3}, "holds no search space"),
    ],
)
def test_a_space_that_is_none_is_refused(model, fields, message):
    with safetensors.safe_open(model / MODEL_FILE, framework="numpy") as file:
        about = json.loads(file.metadata()["space"])
    change(model, {}, {"space": json.dumps({**about, **fields})})
    assert message in refusal(model)


def test_a_space_may_not_be_nested_without_end(model):
    change(model, {}, {"space": "[" * 100_000})
    assert "holds no search space that can be read" in refusal(model)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"", "config.json cannot be read"),
        ("config.json", b"[" * 200_000, "config.json cannot be read"),
        ("config.json", b"\xff\xfe", "config.json cannot be read"),
        ("config.json", b"[]", "config.json is no config"),
        ("config.json", b"{}", "data.format is missing"),
        ("schema.json", b"", "schema.json cannot be read"),
        ("schema.json", b"[]", "schema.json does not describe attributes"),
        ("schema.json", b'{"names": ["a"], "values": ["b"]}', "of another config or schema"),
        ("schema.json", b'{"names": [1], "values": [["b"]]}', "schema.json does not describe attributes"),
        ("schema.json", b'{"names": ["a", "a"], "values": [["b"], ["b"]]}', "must be unique"),
        ("schema.json", b'{"names": 3, "values": null}', "schema.json does not describe attributes"),
        ("schema.json", b'{"names": ["a"], "values": [[["b"]]]}', "schema.json does not describe attributes"),
    ],
)
def test_damaged_json_is_refused(model, file, content, message):
    (model / file).write_bytes(content)
    found = refusal(model)
    assert str(model) in found
    if "another config" not in message:
        assert message in found


def test_a_json_file_that_would_fill_the_memory_is_not_read(model):
    with (model / "schema.json").open("wb") as file:
        file.truncate(1 << 40)  # of no bytes on the disk
    assert "schema.json cannot be read: it has 1,099,511,627,776 bytes" in refusal(model)


def test_a_missing_file_is_named(model):
    (model / "schema.json").unlink()
    assert "it has no schema.json" in refusal(model)


def test_other_sizes_than_those_of_the_file_are_refused_before_anything_is_made(model):
    rewrite(model / "config.json", model__feature_dim=10**9)
    assert "the config and the attributes need" in refusal(model)


def test_an_unknown_field_is_refused(model):
    rewrite(model / "config.json", data__hook="os.system")
    assert "data.hook: there is no such field" in refusal(model)


@pytest.mark.long
def test_no_place_that_a_stranger_names_is_read(model, tmp_path):
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("weights.pth", "attributes.csv", "embeddings.npy", "0.jpg"):
        (trap / name).write_bytes(b"x")
    places = {f"data__{name}": str(trap) for name in ("root", "cache_dir", "tfds_dir", "embeddings")}
    rewrite(model / "config.json", **places, model__pretrained=str(trap / "weights.pth"))
    WATCHED.append("begun")
    try:
        shop = Retriever.open(model, progress=False)
        shop.photo(np.zeros((9, 9, 3), np.uint8))
        evaluate(model, progress=False)
        opened = WATCHED[1:]
    finally:
        WATCHED.clear()
    assert str(model / MODEL_FILE) in opened
    assert not [path for path in opened if str(trap) in path]
    assert not [path for path in trap.rglob("*") if path.is_dir()]  # nor is anything cached there


def test_a_backbone_is_never_looked_for_elsewhere(model, tmp_path):
    (model / "backbone.safetensors").write_bytes(b"x")
    (model / "checkpoints").mkdir()
    change(model, dict.fromkeys(("backbone/params/Dense_0/bias", "backbone/params/Dense_0/kernel")))
    rewrite(model / "config.json", model__pretrained=str(tmp_path / "weights.pth"))
    assert "2 missing, as backbone/params/Dense_0/bias" in refusal(model)


def test_a_table_outside_of_the_folder_is_refused(model, tmp_path):
    rewrite(model / "config.json", data__format="table", data__table="../../secret.csv")
    assert "data.table = '../../secret.csv': a path within the catalogue's folder" in refusal(
        model, data={"root": str(tmp_path)}
    )


@pytest.mark.long
def test_a_fingerprint_of_a_stranger_is_not_read(model):
    (model / "catalogue.npz").write_bytes(b"PK\x03\x04")
    assert "is a model to share" in evaluate(model, progress=False)["catalogue_changes"][0]


def test_what_a_stranger_links_to_is_not_removed(model, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    Retriever.open(model, progress=False)
    (kept,) = (model / "serving").iterdir()
    shutil.rmtree(kept)
    kept.symlink_to(mine)
    Retriever.open(model, progress=False)
    assert "is not kept, so the next start encodes it again" in capsys.readouterr().err
    assert [path.read_text() for path in mine.iterdir()] == ["dear"]


def test_a_network_that_overflows_is_refused_before_anything_is_compared(model):
    """Its numbers are finite, and those that it gives are not, which JSON has no word for."""
    with safetensors.safe_open(model / MODEL_FILE, framework="numpy") as file:
        names = [name for name in file.keys() if name.startswith("encoder/params") and "kernel" in name]  # noqa: SIM118
        large = {name: np.full_like(file.get_tensor(name), 1e38) for name in names}
    change(model, large)
    assert f"the network of {model} gives numbers that are not finite" in refusal(model)
