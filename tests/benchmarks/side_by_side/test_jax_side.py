import numpy as np
import pytest
from PIL import Image

from benchmarks.compare import prepare_evaluation
from benchmarks.side_by_side import jax_side
from benchmarks.side_by_side.cases import tiny

SIZES = {case.kind: case.sizes for case in tiny(True)}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["train_step", "embedding_step", "inference", "efficientnet_lite0"])
def test_a_batch(kind):
    job = getattr(jax_side, kind)(**SIZES[kind])
    assert job()["units"] == SIZES[kind]["batch"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["train_step", "embedding_step", "inference"])
def test_several_steps_a_turn_count_as_so_many(kind):
    once = getattr(jax_side, kind)(**SIZES[kind])()
    thrice = getattr(jax_side, kind)(**SIZES[kind], steps=3)()
    assert thrice["units"] == 3 * once["units"]


def test_flop_of_an_image_are_those_that_the_papers_network_has():
    """AlexNet's convolutions and fc6, 12 MLPs and heads: from the layers' sizes."""
    convolutions = [
        (55, 11, 3, 64),
        (27, 5, 64, 192),
        (13, 3, 192, 384),
        (13, 3, 384, 256),
        (13, 3, 256, 256),
    ]
    forward = sum(out**2 * kernel**2 * channels * filters for out, kernel, channels, filters in convolutions)
    conv1 = 55**2 * 11**2 * 3 * 64
    dense = 9216 * 4096 + 12 * (4096 * 340 + 340 * 340) + 12 * 340 * 151
    sizes = {"image": 224, "batch": 2}
    inference = jax_side.flop_per_image("inference", sizes)
    assert inference == 2 * (forward + dense)
    # Each layer's gradients cost its own product twice, but for conv1's images, which have none.
    train = jax_side.flop_per_image("train_step", {**sizes, "attributes": 12})
    assert train == pytest.approx(2 * (3 * (forward + dense) - conv1), rel=0.02)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "steps"), [("train_step", 1), ("embedding_step", 20)])
def test_a_train_step_trains(kind, steps):
    job = getattr(jax_side, kind)(**SIZES[kind], steps=steps)
    losses = [job()["loss"] for _ in range(30)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_prototypes_count_what_goes_into_them():
    done = jax_side.prototypes(**SIZES["prototypes"])()
    assert done["images"] == 160
    assert 160 * 12 * 0.6 < done["units"] < 160 * 12 * 0.8


@pytest.mark.long
def test_evaluation_gives_all_metrics(tmp_path):
    case = next(case for case in tiny(False) if case.kind == "evaluation")
    done = jax_side.evaluation(**prepare_evaluation(case, tmp_path))()
    assert done["units"] == 40
    assert set(done["metrics"]) == {"hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others"}
    assert list(done["metrics"]["hit_rate"]) == ["1", "2", "3", "4", "5"]
    assert set(done["parts"]) == {"search", "metrics"}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_loading_decodes_once(tmp_path, monkeypatch, dtype):
    for name in "abcde":
        Image.new("RGB", (70, 80), "red").save(tmp_path / f"{name}.jpg")
    (tmp_path / "attributes.csv").write_text("image\n" + "".join(f"{name}.jpg\n" for name in "abcde"))
    read, reads = jax_side.ImageFiles.read, []
    monkeypatch.setattr(jax_side.ImageFiles, "read", lambda *a: reads.append(a[1]) or read(*a))
    job = jax_side.loading(str(tmp_path), str(tmp_path / "cache"), image=64, batch=2, dtype=dtype)
    assert [job()["units"] for _ in range(3)] == [4, 4, 4]
    assert sorted(reads) == [0, 1, 2, 3, 4]
