import copy
import pickle
import struct

import jax
import numpy as np
import pytest

from configs.variants import SYSTEMS
from gradrev_jax.errors import CheckpointError, ConfigError, WeightsError, WorkdirError
from gradrev_jax.evaluation import run as evaluation
from gradrev_jax.evaluation.scores import SCORES_FILE, read_scores
from gradrev_jax.models.forward import make_forward
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.runs import builders, pixels, workdir
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.restore import restore
from gradrev_jax.training import torch_runs
from gradrev_jax.training.run import train
from gradrev_jax.training.torch_runs import export_run, import_run
from gradrev_jax.weights.adde import encoder_to_torch, memory_to_torch
from gradrev_jax.weights.reader import read_state_dict
from gradrev_jax.weights.writer import write_state_dict


@pytest.fixture
def config(tiny_config):
    """Of AlexNet, with a tap before fc7, unlike ADDE-M's files."""
    tiny_config.model.backbone = "alexnet"
    tiny_config.train.epochs = 1
    tiny_config.memory.update({"triplets": 14, "batch_size": 4, "epochs": 2})
    return tiny_config


def model(config, **fields):
    config = copy.deepcopy(config)
    config.model.update(fields)
    return builders.build_encoder(config, builders.open_catalogue(config).schema)


def random_tree(shapes, rng):
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / max(leaf.shape[-2:-1] or (1,)) ** 0.5).astype(np.float32),
        shapes,
    )


@pytest.fixture
def make_pair(config, rng, tmp_path):
    """Writes random parameters and a memory in the format of ADDE-M's own files, and returns them."""

    def make(**fields):
        encoder = model(config, **fields)
        schema = encoder.schema
        params = random_tree(parameter_shapes(encoder, 64), rng)
        memory = rng.normal(size=(schema.num_values, schema.num_attributes, 4)).astype(np.float32)
        write_legacy(tmp_path / "extractor_best.pkl", encoder_to_torch(params, schema))
        write_legacy(tmp_path / "memory_best.pkl", memory_to_torch(memory))
        return params, memory

    return make


@pytest.fixture
def pair(make_pair):
    """As ADDE-M has it."""
    return make_pair(tap="fc7")


def write_legacy(path, tensors):
    """What torch.save wrote before 1.6, by hand."""

    def text(word):
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def integers(*numbers):
        return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in numbers) + b"t"

    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, 2)
        file.write(b"\x80\x02ccollections\nOrderedDict\n)R(")
        for key, (name, tensor) in enumerate(tensors.items()):
            file.write(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((")
            file.write(text("storage") + b"ctorch\nFloatStorage\n" + text(str(key)) + text("cuda:0"))
            file.write(integers(tensor.size)[1:-1] + b"NtQ" + integers(0)[1:-1] + integers(*tensor.shape))
            file.write(integers(*(np.array(tensor.strides) // 4)) + b"\x89ccollections\nOrderedDict\n)RtR")
        file.write(b"u.")
        pickle.dump([str(key) for key in range(len(tensors))], file, 2)
        for tensor in tensors.values():
            file.write(struct.pack("<q", tensor.size) + tensor.tobytes())


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def features(encoder, params, images):
    """In batches of the evaluation's size, which are compiled already."""
    batches = [images[start : start + 10] for start in range(0, len(images), 10)]
    batches[-1] = np.resize(batches[-1], (10, *images.shape[1:]))
    found = [make_forward(encoder)(params, batch).features for batch in batches]
    return np.concatenate(found)[: len(images)]


def nearest(reference, indicator, gallery, memory, strength=1.0):
    """The nearest of the gallery to a manipulated feature, in float64 and without any of our code."""
    edited = gallery[reference].astype(np.float64)
    for value, sign in enumerate(indicator):
        edited = edited + strength * float(sign) * memory[value]
    edited = edited.ravel() / np.linalg.norm(edited)
    rows = gallery.reshape(len(gallery), -1).astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return int(np.argmin(((rows - edited) ** 2).sum(axis=1)))


@pytest.mark.long
def test_a_pair_of_adde_becomes_a_run_that_is_evaluated(config, pair, tmp_path, monkeypatch):
    params, memory = pair
    config.data.count = 120
    given, run = config.to_dict(), tmp_path / "runs" / "adde"
    decided = import_run(config, run, tmp_path / "extractor_best.pkl", tmp_path / "memory_best.pkl")
    assert config.to_dict() == given, "the caller's config is changed"
    stages = ("encoder", "memory")
    assert decided == {
        "model.tap": "fc7",
        "model.heads": "shared",
        "stages": stages,
        "train.max_steps": 0,
    }
    config.update_from_flattened_dict(decided)
    workdir.check_claim(run, config.to_dict())
    encoder = builders.build_encoder(config, workdir.read_schema(run))
    for stage, expected in zip(stages, (None, memory), strict=True):
        assert_same(tuple(restore(run, stage, encoder, 64, "best")), (0, params, expected))

    monkeypatch.setattr(evaluation, "SHOWN_QUERIES", 1)  # drawing them all takes longer than the rest
    metrics = evaluation.evaluate(run, progress=False)
    assert (metrics["stage"], metrics["step"]) == ("memory", 0)
    catalogue = builders.open_catalogue(config)
    images = np.asarray(pixels.open_images(catalogue, "test", config))
    gallery = features(encoder, params, images)
    scores = read_scores(run / "report" / SCORES_FILE)
    assert len(scores.reference) > 20
    for query in range(0, len(scores.reference), 7):
        expected = nearest(scores.reference[query], scores.indicators[query], gallery, memory)
        assert scores.neighbors[query, 0] == expected
    assert (scores.neighbors[:, 0] != scores.reference).any()  # the manipulation counts


@pytest.mark.slow
def test_an_imported_memory_is_trained_on_from_an_encoder_that_stays(config, make_pair, tmp_path):
    params, memory = make_pair()
    files = tmp_path / "extractor_best.pkl", tmp_path / "memory_best.pkl"
    config.update_from_flattened_dict(import_run(config, tmp_path / "run", *files))
    trained = train(config, tmp_path / "run", progress=False)
    assert int(trained.step) == 6
    expected = {"encoder": params, "memory": memory}
    distances = jax.tree.map(lambda a, b: np.abs(a - b).max(), trained.params, expected)
    assert 0 < distances["memory"] < 1e-3  # Adam's steps are about as long as the learning rate, 1e-4
    assert max(jax.tree.leaves(distances)) < 1e-3
    encoder = model(config)
    assert_same(tuple(restore(tmp_path / "run", "encoder", encoder, 64, "latest")), (0, params, None))
    config.train.max_steps = None
    with pytest.raises(WorkdirError, match="after step 0 .*; train.max_steps = 0 leaves it as it is; to do"):
        train(config, tmp_path / "run", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["shared", "repaired"])
def test_an_imported_encoder_is_trained_on(config, make_pair, tmp_path, word):
    params, _ = make_pair()
    config.update_from_flattened_dict(SYSTEMS[word])
    config.stages = ("encoder", "memory")
    config.model.heads = "pairwise"
    config.train.update({"max_steps": 1})
    decided = import_run(config, tmp_path / "run", tmp_path / "extractor_best.pkl")
    assert decided == {"model.tap": "fc6_relu", "model.heads": "shared", "stages": ("encoder",)}
    config.update_from_flattened_dict(decided)
    trained = train(config, tmp_path / "run", progress=False)
    assert int(trained.step) == 1
    assert (trained.adversaries is not None) == (word == "repaired")
    distances = jax.tree.map(lambda a, b: np.abs(a - b).max(), trained.params, params)
    assert 0 < max(jax.tree.leaves(distances)) < 2e-3  # one step of the learning rate, 1e-3
    with Checkpoints(tmp_path / "run" / "checkpoints" / "encoder", read_only=True) as checkpoints:
        assert checkpoints.best_step == 1


@pytest.mark.long
def test_a_run_exported_and_imported_again_is_the_same_to_the_bit(config, tmp_path):
    config.train.max_steps = 2
    trained = train(config, tmp_path / "run", progress=False).params
    encoder = model(config)
    images = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), np.uint8)
    for suffix in (".pth", ".safetensors"):
        files = export_run(tmp_path / "run", tmp_path / "out" / suffix, suffix=suffix)
        assert files == [tmp_path / "out" / suffix / f"extractor{suffix}"]
        import_run(config, tmp_path / "again" / suffix, files[0])
        _, params, _ = restore(tmp_path / "again" / suffix, "encoder", encoder, 64, "best")
        assert_same(params, trained)
        np.testing.assert_array_equal(features(encoder, params, images), features(encoder, trained, images))


@pytest.mark.long
def test_a_class_for_missing_labels_goes_along(config, tmp_path, monkeypatch):
    """Only into runs that have it, too; and the run that comes back is evaluated alike."""
    monkeypatch.setattr(evaluation, "write_run_report", lambda *arguments: None)
    config.data.update({"missing": "value", "missing_fraction": 0.3, "count": 120})
    config.train.max_steps = 2
    config.protocol.update({"representation": "posterior", "edit": "replace"})
    trained = train(config, tmp_path / "run", progress=False).params
    encoder = model(config)
    assert encoder.classes.num_values == encoder.schema.num_values + encoder.schema.num_attributes
    (file,) = export_run(tmp_path / "run", tmp_path / "out", suffix=".pth")
    import_run(config, tmp_path / "again", file)
    _, params, _ = restore(tmp_path / "again", "encoder", encoder, 64, "best")
    assert_same(params, trained)
    before, after = (evaluation.evaluate(tmp_path / name, progress=False) for name in ("run", "again"))
    unlike = ("step", "catalogue_changes")
    assert {**after, **dict.fromkeys(unlike)} == {**before, **dict.fromkeys(unlike)}
    config.data.missing = "ignore"
    with pytest.raises(WeightsError):
        import_run(config, tmp_path / "other", file)
    assert not (tmp_path / "other").exists()


def test_pairwise_heads_and_another_tap(config, make_pair, tmp_path):
    params, _ = make_pair(heads="pairwise", tap="fc7_relu")
    config.model.tap = "fc7_relu"
    decided = import_run(config, tmp_path / "run", tmp_path / "extractor_best.pkl")
    assert decided == {"model.tap": "fc7_relu", "model.heads": "pairwise", "stages": ("encoder",)}
    files = export_run(tmp_path / "run", tmp_path / "out", suffix=".safetensors")
    import_run(config, tmp_path / "again", files[0])
    encoder = model(config, heads="pairwise")
    for run in ("run", "again"):
        assert_same(tuple(restore(tmp_path / run, "encoder", encoder, 64, "best")), (0, params, None))


@pytest.mark.usefixtures("pair")
def test_a_memory_is_exported_with_its_encoder(config, tmp_path):
    import_run(config, tmp_path / "run", tmp_path / "extractor_best.pkl", tmp_path / "memory_best.pkl")
    files = export_run(tmp_path / "run", tmp_path / "out", suffix=".pth")
    assert [path.name for path in files] == ["extractor.pth", "memory.pth"]
    for path in files:
        assert_same(read_state_dict(path), read_state_dict(tmp_path / f"{path.stem}_best.pkl"))
    alone = export_run(tmp_path / "run", tmp_path / "alone", suffix=".pth", stage="encoder", step="0")
    assert [path.name for path in alone] == ["extractor.pth"]
    assert alone[0].read_bytes() == files[0].read_bytes()


def listing(directory):
    return sorted(path for path in directory.rglob("*"))


@pytest.mark.usefixtures("pair")
def test_what_cannot_be_imported_leaves_nothing(config, tmp_path):
    extractor, memory = tmp_path / "extractor_best.pkl", tmp_path / "memory_best.pkl"
    good = read_state_dict(extractor)
    write_state_dict(tmp_path / "poor.pth", {**good, "dis_proj.0.0.bias": np.ones(5, np.float32)})
    write_state_dict(tmp_path / "short.pth", {"Memory.weight": np.ones((4, 3), np.float32)})
    before, run = listing(tmp_path), tmp_path / "run"
    for arguments, message in [
        ((tmp_path / "none.pkl",), f"^{tmp_path}/none.pkl does not exist"),
        ((memory,), f"^{memory}: this is no attribute encoder .*; the file has Memory.weight"),
        (
            (tmp_path / "poor.pth",),
            f"^{tmp_path}/poor.pth: tensors do not fit the model:\n  dis_proj.0.0.bias",
        ),
        ((extractor, extractor), f"^{extractor}: this is no memory: "),
        (
            (extractor, tmp_path / "short.pth"),
            f"^{tmp_path}/short.pth: .*\n  Memory.weight has shape .4, 3.; ",
        ),
    ]:
        with pytest.raises(WeightsError, match=message):
            import_run(config, run, *arguments)
    config.model.feature_dim = 7
    with pytest.raises(
        WeightsError,
        match="the file has features of width 4, `feature_dim` is 7 .config: model.feature_dim.$",
    ):
        import_run(config, run, extractor)
    config.model.update({"feature_dim": 4, "unit_features": True})
    with pytest.raises(WeightsError, match="`unit_features` must be off .config: model.unit_features.$"):
        import_run(config, run, extractor)
    config.model.feature_dim = 0
    with pytest.raises(ConfigError, match="model.feature_dim = 0"):
        import_run(config, run, extractor)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.system", "gamma", "model.system = 'gamma': files of PyTorch have"),
        (
            "model.backbone",
            "efficientnet_lite0",
            "model.backbone = efficientnet_lite0: files of PyTorch have",
        ),
        ("model.freeze_backbone", True, "model.backbone = frozen embeddings: files of PyTorch have"),
    ],
)
def test_a_run_that_files_of_pytorch_cannot_hold_is_refused(config, field, value, message):
    """It was taken for a damaged one, because its checkpoint has other shapes."""
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        torch_runs._build_encoder(config, builders.open_catalogue(config).schema)


@pytest.mark.usefixtures("pair")
def test_a_run_that_is_there_is_refused(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    import_run(config, run, tmp_path / "extractor_best.pkl")
    before = listing(tmp_path)
    with pytest.raises(WorkdirError, match=f"^{run} exists already; give another --workdir"):
        import_run(config, run, tmp_path / "extractor_best.pkl")
    with pytest.raises(WeightsError, match=f"^{run} exists already; give a folder that does not"):
        export_run(run, run, suffix=".pth")
    with pytest.raises(WorkdirError, match="has no stage 'memory'; its stages are encoder"):
        export_run(run, tmp_path / "out", suffix=".pth", stage="memory")
    with pytest.raises(WorkdirError, match="has no checkpoint '7'; there are 0, best, latest"):
        export_run(run, tmp_path / "out", suffix=".pth", step="7")
    with pytest.raises(WorkdirError, match="is not a run of train.py"):
        export_run(tmp_path / "none", tmp_path / "out", suffix=".pth")
    assert listing(tmp_path) == before


@pytest.mark.usefixtures("pair")
def test_a_disk_that_fills_leaves_nothing(config, tmp_path, monkeypatch):
    extractor, memory = tmp_path / "extractor_best.pkl", tmp_path / "memory_best.pkl"
    import_run(config, tmp_path / "run", extractor, memory)
    before = listing(tmp_path)

    def fill(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradrev_jax.weights.writer.WRITERS", {".pth": fill})
    with pytest.raises(WeightsError, match="extractor.pth cannot be written: No space left on device"):
        export_run(tmp_path / "run", tmp_path / "out", suffix=".pth")
    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", fill)
    with pytest.raises(CheckpointError, match="cannot write step 0 to .*: .*No space left on device"):
        import_run(config, tmp_path / "two", extractor)
    assert listing(tmp_path) == before


def test_nothing_is_taken_as_it_is_where_nothing_is(config, tmp_path):
    config.train.max_steps = 0
    with pytest.raises(
        ConfigError, match="train.max_steps = 0 takes the encoder that a run has as it is, and"
    ):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("pair")
def test_torch_loads_what_is_exported(config, tmp_path):
    torch = pytest.importorskip("torch")
    import_run(config, tmp_path / "run", tmp_path / "extractor_best.pkl", tmp_path / "memory_best.pkl")
    for path in export_run(tmp_path / "run", tmp_path / "out", suffix=".pth"):
        ours = torch.load(path, weights_only=True)
        theirs = torch.load(tmp_path / f"{path.stem}_best.pkl", weights_only=True, map_location="cpu")
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_folders_and_files_may_be_strings(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkdirError, match="exists already"):
        import_run(config, str(tmp_path), str(tmp_path / "extractor.pth"))
    with pytest.raises(WeightsError, match="extractor.pth"):
        import_run(config, str(tmp_path / "run"), str(tmp_path / "extractor.pth"))
    with pytest.raises(WorkdirError, match="is not a run of train.py"):
        export_run(str(tmp_path), str(tmp_path / "out"), suffix=".pth")
    with pytest.raises(WeightsError, match="exists already"):
        export_run(str(tmp_path), str(tmp_path), suffix=".pth")
