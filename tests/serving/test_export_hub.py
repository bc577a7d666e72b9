"""Publishing and fetching, against a hub in miniature on the loopback interface."""

import builtins
import importlib
import json
import shutil
import socket

import numpy as np
import pytest

from gradrev_jax import Retriever
from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.serving.hub import FILES, fetch_model, parse_hub_name, push_model

hub_package = pytest.importorskip("huggingface_hub")

from tests.serving.hub_server import Hub  # noqa: E402


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, which the package takes for the one that there is."""
    hub = Hub()
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + template)
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **how: look_up(_loopback(host), *rest, **how)
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    yield hub
    hub.close()


def _loopback(host):
    assert host in ("127.0.0.1", b"127.0.0.1"), f"a test asked for {host}"
    return host


@pytest.fixture
def published(hub, small_model):
    """The name of a model that is on the hub."""
    push_model(small_model, "someone/dresses")
    return "someone/dresses"


@pytest.mark.long
def test_what_is_published_is_what_others_open(hub, published, small_model, capfd):
    capfd.readouterr()
    fetched = Retriever.open(f"hub:{published}", progress=False)
    assert "Fetching" not in capfd.readouterr().err
    mine = Retriever.open(small_model, progress=False)
    np.testing.assert_array_equal(fetched._gallery.blocks, mine._gallery.blocks)
    assert (fetched.name, mine.name) == ("someone/dresses", "model")


def test_only_the_files_of_a_model_travel(hub, small_model, tmp_path):
    model = shutil.copytree(small_model, tmp_path / "model", ignore=shutil.ignore_patterns("serving"))
    for name in ("report/metrics.json", "serving/test/blocks.npy", "notes.txt", "report/hit_rate.png"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"x")
    address = push_model(model, "someone/dresses")
    files = hub.models["someone/dresses"][-1]
    assert address == f"{hub.address}/someone/dresses/commit/{hub.hash('someone/dresses', 0)}"
    assert set(files) == {path.name for path in model.iterdir() if path.name in FILES}
    for name, content in files.items():
        assert content == (model / name).read_bytes()
    hub.commit("someone/dresses", {**files, "evil.py": b"x", "serving/test/gallery.json": b"{}"})
    fetched = fetch_model("hub:someone/dresses")
    assert {path.name for path in fetched.iterdir()} == {"model.safetensors", "config.json", "schema.json"}
    assert not [path for path in hub.asked if "evil" in path]


def test_a_revision_stays_what_it_was(hub, published):
    first = dict(hub.models[published][0])
    config = json.loads(first["config.json"])
    config["protocol"]["batch_size"] = 7
    hub.commit(published, {**first, "config.json": json.dumps(config).encode()})
    sizes = [
        json.loads((fetch_model(f"hub:{where}") / "config.json").read_text())["protocol"]["batch_size"]
        for where in (published, f"{published}@{hub.hash(published, 0)}", f"{published}@main")
    ]
    assert sizes == [7, 10, 7]


def test_a_name_that_is_there_gets_another_commit(hub, published, small_model):
    push_model(small_model, published)
    assert len(hub.models[published]) == 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("hub:someone/none", "there is no such name, or it is not for you"),
        ("hub:someone/dresses@v9", "cannot be fetched: "),
        ("hub:", "names no model of the hub"),
        ("hub:a/b/c", "names no model of the hub"),
        ("hub:../secret", "names no model of the hub"),
        ("hub:a/b@v1/../../../secret", "names no model of the hub"),
        ("hub:a/b@", "names no model of the hub"),
        ("hub:a/b@../x y", "names no model of the hub"),
    ],
)
def test_what_is_not_there_is_said(hub, published, where, message):
    with pytest.raises((ConfigError, WorkdirError), match=message) as caught:
        Retriever.open(where, progress=False)
    assert where in str(caught.value)


def test_what_is_no_model_is_said(hub):
    hub.commit("someone/other", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    with pytest.raises(
        WorkdirError, match=r"hub:someone/other is no model of gradrev_jax: it has no model.safe"
    ):
        fetch_model("hub:someone/other")
    assert not [path for path in hub.asked if "pytorch_model" in path]


def test_a_damaged_model_on_the_hub_is_refused(hub, published):
    files = dict(hub.models[published][0])
    hub.commit(published, {**files, "model.safetensors": files["model.safetensors"][:-1]})
    with pytest.raises(WorkdirError, match="model.safetensors is cut short"):
        Retriever.open(f"hub:{published}", progress=False)


def test_what_was_fetched_opens_without_the_hub(hub, published):
    first = fetch_model(f"hub:{published}")
    hub.close()
    assert fetch_model(f"hub:{published}") == first
    with pytest.raises(WorkdirError, match="hub:someone/other cannot be fetched: "):
        fetch_model("hub:someone/other")


def test_only_models_are_published(hub, small_run, small_model, tmp_path):
    with pytest.raises(WorkdirError, match="holds no model to share; export one first"):
        push_model(small_run, "someone/dresses")
    with pytest.raises(ConfigError, match=r"'no name' cannot be a name on the hub; give OWNER/NAME"):
        push_model(small_model, "no name")
    broken = shutil.copytree(small_model, tmp_path / "broken")
    (broken / "config.json").write_text("{}")
    with pytest.raises(WorkdirError, match="config.json cannot be used"):
        push_model(broken, "someone/dresses")
    assert hub.asked == []


def test_a_hub_that_refuses_is_explained(hub, small_model, monkeypatch):
    monkeypatch.setattr(hub, "post", lambda path, body: (403, {"error": "not yours"}))
    with pytest.raises(WorkdirError, match=r"someone/dresses cannot be published: [\s\S]*hf auth login"):
        push_model(small_model, "someone/dresses")


def test_the_package_is_asked_for_where_it_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "huggingface_hub":
            raise ImportError("no such package")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"install it with pip install 'gradrev_jax\[hub\]'"):
        fetch_model("hub:someone/dresses")


def test_names_have_a_revision_or_none():
    assert parse_hub_name("hub:a/b") == ("a/b", None)
    assert parse_hub_name("hub:a/b.c@feature/x") == ("a/b.c", "feature/x")
