import jax
import jax.numpy as jnp
import pytest

from benchmarks import layers
from gradrev_jax.models.alexnet import AlexNet
from gradrev_jax.models.winograd import Geometry

FORWARD, IMAGES, KERNEL = "forward", "images' gradient", "kernel's gradient"
POOLING = [FORWARD, "gradient", "gradient, ReLU inside", "gradient, ReLU after"]


@pytest.mark.long
def test_every_layer_is_measured_and_right(tmp_path, capsys):
    result = layers.main(["--tiny", "--repeats=2", f"--out={tmp_path}"])
    assert (tmp_path / "layers_cpu.json").exists()
    convolutions = {layer["layer"]: layer for layer in result["convolutions"]}
    poolings = {layer["layer"]: layer for layer in result["poolings"]}
    assert list(convolutions) == [f"conv{n}" for n in range(1, 6)]
    assert [name for name, layer in convolutions.items() if layer["tiles"]] == ["conv1"]
    assert list(convolutions["conv1"]["passes"]) == [FORWARD, KERNEL]
    assert list(convolutions["conv2"]["passes"]) == [FORWARD, IMAGES, KERNEL]
    assert list(poolings) == ["pool1", "pool2", "pool5"]
    assert list(poolings["pool5"]["passes"]) == POOLING
    for layer in (*convolutions.values(), *poolings.values()):
        for name, one in layer["passes"].items():
            assert one["largest_difference"] < 1e-5, (layer["layer"], name)
            ours, plain = one["gradrev_jax"], one["plain"]
            assert ours["most_seconds"] >= ours["median_seconds"] >= ours["least_seconds"] > 0
            assert one["times_faster"] == plain["median_seconds"] / ours["median_seconds"]
    printed = capsys.readouterr().out
    assert "| conv1, kernel's gradient | yes |" in printed
    assert "| pool5, gradient, ReLU after |" in printed


def test_layers_are_those_of_the_model():
    found = {layer.name: layer for layer in layers.backbone_layers(224, 64, 1.0)}
    images = jnp.zeros((1, 224, 224, 3))
    params = jax.eval_shape(AlexNet().init, jax.random.key(0), images)["params"]
    kernels = {name: layer["kernel"].shape for name, layer in params.items() if name.startswith("conv")}
    assert {name: layer.kernel for name, layer in found.items() if layer.kernel} == kernels
    assert found["conv1"][1:] == ((64, 224, 224, 3), (11, 11, 3, 64), Geometry(4, 2))
    assert found["conv2"][1:] == ((64, 27, 27, 64), (5, 5, 64, 192), Geometry(1, 2))
    assert found["pool1"][1:] == ((64, 55, 55, 64), None, None)
    assert found["pool5"].images == (64, 13, 13, 256)


@pytest.fixture
def one_convolution():
    return layers.Layer("conv2", (2, 5, 4, 3), (3, 3, 3, 7), Geometry(1, 1))


def test_operations_are_the_direct_convolutions(one_convolution):
    measured = layers.measure(one_convolution, 1, lambda: None)
    assert measured["operations"] == 2 * (2 * 5 * 4) * (3 * 3 * 3) * 7
    for one in measured["passes"].values():
        plain = one["plain"]
        rate = measured["operations"] / plain["median_seconds"]
        assert plain["gflop_per_second"] == pytest.approx(rate / 1e9)


@pytest.mark.parametrize("side", ["gradrev_jax", "plain"])
def test_a_pass_has_nothing_of_the_others_in_it(one_convolution, side):
    given = [jnp.zeros(shape) for shape in (*one_convolution[1:3], (2, 5, 4, 7))]
    for name, sides in layers.passes(one_convolution).items():
        text = jax.jit(sides[side]).lower(*given).compile().as_text()
        assert text.count(" convolution(") == 1, name


def test_sides_are_warmed_up_and_then_take_turns(monkeypatch):
    log = []
    monkeypatch.setattr(jax, "jit", lambda function: function)
    monkeypatch.setattr(layers, "timed", lambda work: (next(seconds), work()))
    seconds = iter([9.0, 9.0, 1.0, 4.0, 2.0, 6.0, 5.0, 5.0])

    def side(name, value):
        return lambda x: log.append(name) or x + value

    measured = layers.measured(
        {"gradrev_jax": side("ours", 0.5), "plain": side("plain", 0.0)}, [jnp.array([1.0, 2.0])], 3
    )
    assert log == ["ours", "plain"] * 5
    assert measured["gradrev_jax"] == {"median_seconds": 2.0, "least_seconds": 1.0, "most_seconds": 5.0}
    assert measured["times_faster"] == 5.0 / 2.0
    assert measured["largest_difference"] == 0.25
