"""Fuzz targets of what comes from strangers or from a disk: weights, models, indexes and folders of runs."""

import contextlib
import functools
import json
import pathlib
import pickle
import zipfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from configs import garments
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.spaces import Fitted
from gradrev_jax.data.vector_rows import VectorArray, Vectors
from gradrev_jax.errors import DataError, WeightsError
from gradrev_jax.evaluation.comparison.systems import read_run as read_comparison
from gradrev_jax.evaluation.opening import read_run_config
from gradrev_jax.evaluation.scores import METRICS_FILE, SCORES_FILE, Scores, write_scores
from gradrev_jax.evaluation.searching import Way
from gradrev_jax.models.alexnet import TAPS, AlexNet
from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.initialization import parameter_shapes
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.runs import workdir
from gradrev_jax.runs.builders import build_encoder, with_defaults
from gradrev_jax.runs.checkpoints import Checkpoints
from gradrev_jax.runs.fingerprints import Fingerprint, read_fingerprint, save_fingerprint
from gradrev_jax.runs.frozen_backbone import open_frozen_backbone, save_frozen_backbone
from gradrev_jax.runs.loggers.loggers import Loggers
from gradrev_jax.runs.metrics_log import MetricsLog, read_records
from gradrev_jax.runs.model_file import MODEL_FILE, Checkpoint, write_model
from gradrev_jax.runs.restore import restore
from gradrev_jax.runs.shared_config import portable
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.index_files import open_index, save_index
from gradrev_jax.serving.gallery import EncodedGallery, keep_gallery, kept_folder, open_gallery
from gradrev_jax.serving.shared_model import open_model
from gradrev_jax.serving.space import SearchSpace, open_space, save_space
from gradrev_jax.weights.alexnet import backbone_to_torch
from gradrev_jax.weights.numpy_pickle import read_numpy_pickle
from gradrev_jax.weights.pretrained import arrays_by_name, load_backbone
from gradrev_jax.weights.reader import read_state_dict
from tests.faults.fuzzing import Target, all_files
from tests.small_backbone import LeftColour
from tests.torch_tensors import LEGACY_FILE, ZIP_FILE

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=4, width=1 / 32)
SIDE = 64


def only(*names: str):
    """Returns a function that finds the files with some names."""
    return lambda folder: [folder / name for name in names]


def writing(name: str, content: bytes):
    """Returns a function that writes one file."""
    return lambda folder: (folder / name).write_bytes(content)


def check_tensors(tensors: dict[str, np.ndarray]) -> None:
    """Reads the first and the last number of each tensor, which could lie outside of the file."""
    for name, tensor in tensors.items():
        assert type(name) is str
        if tensor.size:
            _ = tensor[(0,) * tensor.ndim], tensor[(-1,) * tensor.ndim]


# Weights.


def read_weights(folder: pathlib.Path) -> None:
    """Reads the only file of a folder as a file of weights."""
    (path,) = folder.iterdir()
    check_tensors(read_state_dict(path))


def make_torch_pickle(folder: pathlib.Path) -> None:
    """Writes the pickle of torch's archive alone, so that its checksum is right whatever becomes of it."""
    with zipfile.ZipFile(_as_file(folder / "archive", ZIP_FILE)) as archive:
        (folder / "data.pkl").write_bytes(archive.read("archive/data.pkl"))


def read_torch_pickle(folder: pathlib.Path) -> None:
    """Puts the pickle back into the archive, and reads that."""
    with zipfile.ZipFile(folder / "archive") as good:
        members = {name: good.read(name) for name in good.namelist()}
    members["archive/data.pkl"] = (folder / "data.pkl").read_bytes()
    with zipfile.ZipFile(folder / "changed.pth", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    check_tensors(read_state_dict(folder / "changed.pth"))


def _as_file(path: pathlib.Path, content: bytes) -> pathlib.Path:
    path.write_bytes(content)
    return path


ALEXNET = AlexNet(width=1 / 32, tap=TAPS[0])


@functools.cache
def alexnet_shapes():
    """Returns the variables of a narrow AlexNet."""
    return jax.eval_shape(ALEXNET.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def make_numpy_pickles(folder: pathlib.Path) -> None:
    """Writes the layers of AlexNet as pickles of protocols 2 and 5."""
    tree = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float16), alexnet_shapes()["params"])
    for protocol in (2, 5):
        (folder / f"{protocol}.pkl").write_bytes(
            pickle.dumps(jax.tree.map(lambda x: x[..., :1], tree), protocol)
        )
    arrays = {"conv1": {"bias": np.arange(3.0), "kernel": np.ones((2, 2), ">f4", order="F")}}
    (folder / "small.pkl").write_bytes(pickle.dumps(arrays, 4))


def read_numpy_pickles(folder: pathlib.Path) -> None:
    """Reads them as weights of AlexNet, whose shapes they do not have, and by themselves."""
    for path in sorted(folder.iterdir()):
        check_tensors(arrays_by_name(read_numpy_pickle(path)))
        with contextlib.suppress(WeightsError):
            load_backbone("alexnet", alexnet_shapes(), path)


def make_state_dict(folder: pathlib.Path) -> None:
    """Writes weights of a narrow AlexNet, float16, as torchvision names them."""
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), alexnet_shapes()["params"])
    tensors = {name: np.asarray(tensor, np.float16) for name, tensor in backbone_to_torch(params).items()}
    (folder / "alexnet.safetensors").write_bytes(safetensors.numpy.save(tensors))


def read_backbone(folder: pathlib.Path) -> None:
    """Reads them, and checks that the network has whole and finite ones."""
    loaded = load_backbone("alexnet", alexnet_shapes(), folder / "alexnet.safetensors")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded.variables))


# The folder of a run.


def small_config() -> ConfigDict:
    """Returns the config of a small run on drawn garments."""
    config = garments.get_config()
    config.data.image_size = SIDE
    config.data.count = 8
    config.model.update({"width": 1 / 32, "feature_dim": 4})
    config.protocol.update({"representation": "features", "look": "0", "batch_size": 4})
    return with_defaults(config)


def make_run(folder: pathlib.Path) -> None:
    """Writes the small files of a run."""
    workdir.claim(folder, small_config().to_dict())
    workdir.claim_schema(folder, SCHEMA)
    workdir.write_json(folder / workdir.VECTORS, {"width": 8})
    lines = [
        {"stage": stage, "step": step, "loss": 0.5, "seconds": 1.5}
        for stage in ("encoder", "memory")
        for step in (1, 2)
    ]
    (folder / workdir.METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    workdir.write_json(folder / "loggers.json", {"wandb": {"id": "a1", "records": 3, "told": {"loss": 2}}})
    zeros = np.zeros(6, np.uint8)
    names = tuple(f"images/{number}.jpg" for number in range(6))
    labels = np.zeros((6, 2), np.int32)
    made = Fingerprint(names, np.arange(6).astype(np.uint64), labels, zeros, zeros.astype(bool))
    save_fingerprint(folder, made)


def read_run(folder: pathlib.Path) -> None:
    """Reads them as a later command does."""
    found = read_fingerprint(folder)
    if found is not None:
        count = len(found.names)
        assert found.contents.shape == found.parts.shape == found.trained_on.shape == (count,)
        assert found.labels.shape[0] == count
    read_run_config(folder, {}, {})
    workdir.read_schema(folder)
    workdir.check_claim(folder, small_config().to_dict())
    workdir.check_vectors(folder, Vectors(VectorArray(np.zeros((3, 1, 8), np.float32)), np.arange(3)))
    Loggers(folder)
    for record in read_records(folder / workdir.METRICS):
        assert isinstance(record, dict)
    with MetricsLog(folder, "memory", 1):
        pass


def make_report(folder: pathlib.Path) -> None:
    """Writes a run with its report."""
    make_run(folder)
    labels = np.random.default_rng(0).integers(-1, (3, 2), (6, 2)).astype(np.int32)
    made = Scores(
        reference=np.arange(4).astype(np.int32),
        changed=np.ones((4, 2), bool),
        indicators=np.ones((4, 5), np.int8),
        targets=np.zeros((4, 2), np.int32),
        neighbors=np.zeros((4, 3), np.int32),
        ks=np.array([1, 3]),
        by_metric={"hit_rate": np.ones((4, 2), np.float32)},
        labels=labels,
        correct=np.minimum(labels, 1).astype(np.int8),
    )
    report = workdir.report_directory(folder, "encoder", ("encoder",))
    protocol = small_config().protocol.to_dict()
    means, by_k = {"macro": 0.5, "micro": None}, {"1": 1.0, "3": 1.0}
    metrics = {
        "stage": "encoder",
        "step": 3,
        "strength": 1.0,
        "protocol": protocol,
        "hit_rate": by_k,
        "baselines": {"no_manipulation": {"hit_rate": by_k}},
        "cross_accuracy": {"matrix": [[1.0]]},
        "attribute_accuracy": means,
        "majority_accuracy": means,
    }
    workdir.write_json(report / METRICS_FILE, metrics)
    write_scores(report / SCORES_FILE, made)


def read_report(folder: pathlib.Path) -> None:
    """Reads it as a comparison of runs does."""
    scores = read_comparison(folder).scores
    assert scores.columns().shape == (len(scores.reference), len(scores.ks) * len(scores.by_metric))
    assert scores.right_answers().shape == scores.labels.shape


@functools.cache
def _small_backbone() -> Backbone:
    return Backbone(LeftColour, inputs=PixelInputs(4), taps=TAPS)


def frozen_config() -> ConfigDict:
    """Returns the config of a run whose backbone is frozen."""
    config = small_config()
    config.model.update({"backbone": "small", "freeze_backbone": True, "tap": TAPS[0]})
    return config


def make_frozen(folder: pathlib.Path) -> None:
    """Writes the weights of a frozen backbone as a run keeps them."""
    with mock.patch.dict(BACKBONES, {"small": _small_backbone()}):
        save_frozen_backbone(folder, open_frozen_backbone(frozen_config(), folder))


def read_frozen(folder: pathlib.Path) -> None:
    """Opens it, and lets it see an image."""
    with mock.patch.dict(BACKBONES, {"small": _small_backbone()}):
        frozen = open_frozen_backbone(frozen_config(), folder)
    frozen.network.apply(frozen.variables, jnp.zeros((1, SIDE, SIDE, 3)))


# Models to share, spaces, galleries and indexes.


def make_space() -> SearchSpace:
    """Returns a space of features."""
    rng = np.random.default_rng(0)
    memory, absent = rng.normal(size=(5, 2, 4)), rng.normal(size=(2, 4))
    fitted = Fitted(memory.astype(np.float32), absent.astype(np.float32), {})
    way = Way("global", "add", 0.7, np.ones(2, np.float32))
    return SearchSpace(SCHEMA, "ignore", "features", fitted, way, None, np.ones(2, np.float32))


def make_model(folder: pathlib.Path) -> None:
    """Writes a model to share."""
    config = small_config()
    encoder = build_encoder(config, SCHEMA)
    params = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.1, np.float32), parameter_shapes(encoder, config.data.image_size)
    )
    space = make_space()
    trees = {"encoder": params, "memory": np.ones((5, 2, 4), np.float32)}
    stage = config.stages[0]
    write_model(folder / MODEL_FILE, Checkpoint(stage, 7), trees, space.arrays(), space.metadata())
    workdir.write_json(folder / workdir.CONFIG, portable({**config.to_dict(), "stages": (stage,)}))
    workdir.claim_schema(folder, SCHEMA)


def read_model(folder: pathlib.Path) -> None:
    """Opens it as a server does."""
    config = read_run_config(folder, {}, {})
    encoder = build_encoder(config, workdir.read_schema(folder))
    representation = config.protocol.representation
    model = open_model(folder, encoder, representation, config.data.image_size, "best")
    check_space(model.space)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))


def read_space(folder: pathlib.Path) -> None:
    """Opens a space."""
    check_space(open_space(folder / "space.safetensors"))


def check_space(space: SearchSpace) -> None:
    """Asserts what holds for every space."""
    memory = space.fitted.memory
    assert memory.shape[0] == space.schema.num_values
    assert memory.dtype.kind == space.fitted.absent.dtype.kind == space.temperatures.dtype.kind == "f"
    assert np.isfinite(memory).all()
    space.rest(None)


OF = {"version": 1, "count": 6}


def make_gallery(folder: pathlib.Path) -> None:
    """Writes a kept gallery."""
    rng = np.random.default_rng(0)
    blocks, logits = rng.normal(size=(6, 2, 4)), rng.normal(size=(6, 5))
    gallery = EncodedGallery(make_space(), "encoder", 7, blocks.astype("f4"), logits.astype("f4"))
    keep_gallery(folder, ("test",), OF, gallery)


def read_gallery(folder: pathlib.Path) -> None:
    """Opens it; what is damaged is encoded again, which is no error."""
    with mock.patch("gradrev_jax.serving.gallery.say") as said:
        found = open_gallery(folder, ("test",), OF)
    if found is None:
        raise DataError(str(said.call_args or kept_folder(folder, ("test",), OF)))
    assert found.blocks.shape == (6, *found.space.fitted.memory.shape[1:])
    assert found.own_logits.shape == (6, 5)
    assert found.blocks.dtype == found.own_logits.dtype == np.float32
    assert found.step >= 0
    found.space.probabilities(found.own_logits)
    check_space(found.space)


def make_index(folder: pathlib.Path) -> None:
    """Writes an index with weights and an edit by replacement, whose memory has more rows than values."""
    rng = np.random.default_rng(0)
    gallery, memory, absent = rng.normal(size=(9, 2, 4)), rng.normal(size=(5, 2, 4)), rng.normal(size=(2, 4))
    arrays = gallery.astype(np.float32), memory.astype(np.float32)
    absent = absent.astype(np.float32)
    index = ManipulationIndex.build(*arrays, SCHEMA, "attribute", [0.5, 2], "replace", absent)
    save_index(index, folder / "index")


def read_index(folder: pathlib.Path) -> None:
    """Opens it; what a search gathers by is right, so that it need not be compiled here."""
    index = open_index(folder / "index")
    products, count = index.products, len(index.features)
    assert products.rows.shape == index.features.shape
    assert products.table.shape == (len(products.part), count)
    assert ((products.entries >= 0) & (products.entries < len(products.part))).all()
    assert index.prototypes.shape == (5, *index.features.shape[1:])


# Checkpoints.


def make_checkpoints(folder: pathlib.Path) -> None:
    """Writes two checkpoints of a stage."""
    shapes = parameter_shapes(ENCODER, SIDE)
    with Checkpoints(workdir.checkpoint_directory(folder, "encoder")) as checkpoints:
        for step in (1, 2):
            tree = jax.tree.map(lambda leaf, step=step: jnp.full(leaf.shape, float(step)), shapes)
            checkpoints.save(step, {"params": tree, "rest": {"x": jnp.zeros(1)}}, score=-float(step))


def read_checkpoints(folder: pathlib.Path) -> None:
    """Restores the best and the latest."""
    for name in ("best", "latest"):
        found = restore(folder, "encoder", ENCODER, SIDE, name)
        jax.tree.map(
            lambda leaf, there: _same_shape(leaf, there), found.params, parameter_shapes(ENCODER, SIDE)
        )


def _same_shape(one, other) -> None:
    assert (one.shape, one.dtype) == (other.shape, other.dtype)


SAFETENSORS = safetensors.numpy.save(
    {"bias": np.ones(3, np.float32), "half": np.ones((2, 2), np.float16), "flag": np.array(True)},
    metadata={"format": "pt"},
)

TARGETS = {
    target.name: target
    for target in (
        Target("torch zip", writing("weights.pth", ZIP_FILE), read_weights),
        Target("torch legacy", writing("weights.pkl", LEGACY_FILE), read_weights),
        Target("torch pickle", make_torch_pickle, read_torch_pickle, files=only("data.pkl"), named=False),
        Target("numpy pickle", make_numpy_pickles, read_numpy_pickles),
        Target("safetensors", writing("weights.safetensors", SAFETENSORS), read_weights),
        Target("state dict", make_state_dict, read_backbone),
        Target("run", make_run, read_run),
        Target("report", make_report, read_report, files=lambda folder: all_files(folder / "report")),
        Target("frozen backbone", make_frozen, read_frozen),
        Target("space", lambda folder: save_space(make_space(), folder / "space.safetensors"), read_space),
        Target("shared model", make_model, read_model),
        Target("kept gallery", make_gallery, read_gallery),
        Target("index", make_index, read_index),
        Target("checkpoint", make_checkpoints, read_checkpoints),
    )
}
