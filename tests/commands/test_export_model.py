import pytest

from gradrev_jax import Retriever
from gradrev_jax.training.run import train


@pytest.fixture
def small(small_backbone, tiny_config, tmp_path):
    """The folder of a run that trains in no time."""
    tiny_config.model.backbone = small_backbone
    tiny_config.train.epochs = 1
    train(tiny_config, tmp_path / "run", progress=False)
    return tmp_path / "run"


@pytest.mark.long
def test_a_run_is_exported_and_published(call, small, tmp_path, monkeypatch):
    model = tmp_path / "model"
    ended = call(
        "export_model", f"--workdir={small}", f"--out={model}", "--license=mit", "--protocol.edit=replace"
    )
    assert ended.status == 0, ended.err
    assert f"Model: {model}\nIts card: {model / 'README.md'}" in ended.out
    assert (model / "README.md").read_text().startswith('---\nlicense: "mit"\n')
    assert len(Retriever.open(model, progress=False).item(0).search(k=3)) == 3
    again = call("export_model", f"--workdir={small}", f"--out={model}")
    assert again.status == 4
    assert "exists already; give a folder that does not" in again.err
    given = []
    monkeypatch.setattr(
        "gradrev_commands.export_model.push_model",
        lambda directory, name, private: given.append((directory, name, private)) or "http://hub/commit",
    )
    published = call("export_model", f"--out={model}", "--push=someone/dresses", "--private")
    assert published.out == "Published: http://hub/commit\n"
    assert given == [(model, "someone/dresses", True)]


def test_nothing_to_do_is_said(call, tmp_path):
    ended = call("export_model", f"--out={tmp_path / 'model'}")
    assert "there is nothing to do: give --workdir to export a run, --push to publish, or both" in ended.err
    ended = call("export_model", f"--workdir={tmp_path / 'none'}", f"--out={tmp_path / 'model'}")
    assert "is not a run of train.py" in ended.err
    assert not (tmp_path / "model").exists()
