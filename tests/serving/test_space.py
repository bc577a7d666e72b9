import json

import numpy as np
import pytest
import safetensors.numpy

from gradrev_jax.core.missing_labels import MISSING
from gradrev_jax.core.representations import REPRESENTATIONS, represent_material
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.searching import Way
from gradrev_jax.serving.space import SearchSpace, open_space, save_space, with_full_look
from tests.encoded_images import SCHEMA, material


def make(made, name, *, look=0.5, weights=None):
    fitted = REPRESENTATIONS[name].fit(made._replace(look=look))
    way = Way("none", "replace", 1.5, weights)
    has_look = REPRESENTATIONS[name].has_look
    temperatures = np.linspace(0.5, 2, SCHEMA.num_attributes)
    return SearchSpace(
        SCHEMA, made.missing, name, with_full_look(fitted), way, look if has_look else None, temperatures
    )


@pytest.mark.long
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_saved_space_represents_images_as_before(rng, tmp_path, name, missing):
    made = material(rng, missing=missing)
    space = make(made, name)
    save_space(space, tmp_path / "space.safetensors")
    opened = open_space(tmp_path / "space.safetensors")
    expected = represent_material(
        made, REPRESENTATIONS[name].fit(made._replace(look=1.0)), REPRESENTATIONS[name].represent
    )
    np.testing.assert_allclose(opened.represent(made.gallery), expected.gallery, atol=1e-6)
    for field in ("memory", "absent"):
        np.testing.assert_array_equal(getattr(opened.fitted, field), getattr(expected, field))
    np.testing.assert_array_equal(
        opened.probabilities(made.gallery.own_logits), space.probabilities(made.gallery.own_logits)
    )
    kept = ("schema", "missing", "representation", "way", "look")
    assert [getattr(opened, field) for field in kept] == [getattr(space, field) for field in kept]


def test_weights_are_saved(rng, tmp_path):
    made = material(rng)
    blocks = REPRESENTATIONS["hybrid"].fit(made).memory.shape[1]
    space = make(made, "hybrid", weights=np.linspace(0.5, 1.5, blocks))
    save_space(space, tmp_path / "space.safetensors")
    np.testing.assert_array_equal(open_space(tmp_path / "space.safetensors").way.weights, space.way.weights)


@pytest.mark.parametrize("missing", MISSING)
def test_probabilities_are_calibrated_and_of_the_values_alone(rng, missing):
    made = material(rng, missing=missing)
    space = make(made, "posterior")
    found = space.probabilities(made.gallery.own_logits)
    extra = 1 if missing == "value" else 0
    start = 0
    for n, size in enumerate(SCHEMA.sizes):
        logits = np.asarray(made.gallery.own_logits)[:, start : start + size + extra].astype(np.float64)
        scaled = np.exp(logits / space.temperatures[n])
        expected = (scaled / scaled.sum(axis=1, keepdims=True))[:, :size]
        np.testing.assert_allclose(found[:, SCHEMA.attribute_of == n], expected, rtol=1e-4, atol=1e-6)
        start += size + extra


def damage(path, change):
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata, names = file.metadata(), list(file.keys())
        arrays = {name: file.get_tensor(name) for name in names}
    about = json.loads(metadata["space"])
    change(about, arrays)
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"space": json.dumps(about)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, arrays: about.pop("edit"), "'edit'"),
        (lambda about, arrays: about.update(edit="swap"), "edit is 'swap'"),
        (lambda about, arrays: about.update(representation="best"), "representation is 'best'"),
        (lambda about, arrays: about.update(attributes=[]), "attribute"),
        (lambda about, arrays: arrays.pop("space/memory"), "'memory'"),
        (
            lambda about, arrays: arrays.update({"space/memory": np.zeros((2, 2), np.float32)}),
            "shapes disagree",
        ),
        (lambda about, arrays: arrays["space/absent"].fill(np.nan), "not all numbers are finite"),
        (lambda about, arrays: arrays.update({"space/weights": np.ones(99)}), "weights are"),
        (lambda about, arrays: about.update(strength=10**400), "int too large"),
        (lambda about, arrays: about.update(strength=1e300), "strength and look are"),
        (lambda about, arrays: arrays["space/memory"].fill(1e35), "of a size to compute with"),
        (lambda about, arrays: about.update(look=-1.0), "strength and look are"),
        (
            lambda about, arrays: arrays["space/temperatures"].fill(0),
            "temperatures or weights are not above 0",
        ),
        (
            lambda about, arrays: arrays.update({"space/weights": np.zeros(arrays["space/memory"].shape[1])}),
            "temperatures or weights are not above 0",
        ),
        (
            lambda about, arrays: arrays.update({"space/memory": arrays["space/memory"].astype(np.int32)}),
            "memory is int32",
        ),
        (
            lambda about, arrays: arrays.update(
                {
                    "space/memory": np.zeros((*arrays["space/memory"].shape[:2], 0)),
                    "space/absent": np.zeros((len(arrays["space/absent"]), 0)),
                }
            ),
            r"is float64 \(.*, 0\)",
        ),
    ],
)
def test_a_damaged_space_is_refused(rng, tmp_path, change, message):
    path = tmp_path / "space.safetensors"
    save_space(make(material(rng), "posterior"), path)
    damage(path, change)
    with pytest.raises(DataError, match=f"space.safetensors holds no search space.*{message}"):
        open_space(path)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_space_is_refused(rng, tmp_path, length):
    path = tmp_path / "space.safetensors"
    save_space(make(material(rng), "posterior"), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="holds no search space"):
        open_space(path)
