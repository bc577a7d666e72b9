import json
from concurrent.futures import CancelledError
from types import SimpleNamespace

import numpy as np
import pytest

from gradrev_jax.core.representations import make_space
from gradrev_jax.evaluation import run_leakage
from gradrev_jax.evaluation.leakage import measure_leakage
from gradrev_jax.evaluation.run_leakage import leakage_of_run
from tests.encoded_images import DIM, SCHEMA, WIDTH, material

CONTROLS = ("posterior", "random_projection", "backbone")


@pytest.fixture
def measured(monkeypatch):
    """What is measured: the arguments of every call, in order; each is told apart by its number."""
    calls = []

    def measure(features, labels, schema, **options):
        calls.append({"features": features, "labels": labels, "schema": schema, **options})
        numbers = {name: len(calls) for name in ("own_accuracy", "mean", "conditional_mean")}
        return SimpleNamespace(as_json=lambda schema: {**numbers, "matrix": [[len(calls)]]})

    monkeypatch.setattr(run_leakage, "measure_leakage", measure)
    return calls


def measure(made, name="features"):
    space = make_space(name, made)
    return space, leakage_of_run(made, space, progress=False)


def test_controls_are_measured_by_the_linear_probe_beside_the_features(rng, measured):
    made = material(rng, gallery=9, held_out=6)
    space, found = measure(made)
    by_features = {tuple(call["features"].ravel()[:3].tolist()): call for call in measured}
    assert len(by_features) == len(measured) == 4
    for call in measured:
        assert call["labels"] is made.gallery.labels
        assert call["extra"][1] is made.held_out.labels
        assert (call["schema"], call["folds"]) == (SCHEMA, 5)
    own = next(call for call in measured if "kinds" not in call)
    np.testing.assert_array_equal(own["features"], space.gallery)
    np.testing.assert_array_equal(own["extra"][0], space.held_out)
    assert all(call["kinds"] == () for call in measured if call is not own)
    number = 1 + measured.index(own)
    assert (found["own_accuracy"], found["matrix"]) == (number, [[number]])
    assert list(found["controls"]) == list(CONTROLS)
    for means in found["controls"].values():
        assert set(means) == {"own_accuracy", "mean", "conditional_mean"}
    assert sorted([found["mean"], *(each["mean"] for each in found["controls"].values())]) == [1, 2, 3, 4]


def of(measured, found, name):
    call = measured[found["controls"][name]["mean"] - 1]
    return call["features"], call["extra"][0]


def test_each_control_is_what_it_is_called(rng, measured):
    made = material(rng, gallery=30, held_out=20)
    _, found = measure(made)
    posteriors = make_space("posterior", made)
    for given, expected in zip(
        of(measured, found, "posterior"), (posteriors.gallery, posteriors.held_out), strict=True
    ):
        np.testing.assert_array_equal(given, expected)
    outputs = np.concatenate([made.gallery.embeddings, made.held_out.embeddings]).astype(np.float64)
    projected = np.concatenate(of(measured, found, "random_projection"))
    assert projected.shape == (50, 2, DIM)
    for n in range(2):  # linear in the outputs, of full rank, and another for each attribute
        solution = np.linalg.lstsq(outputs, projected[:, n], rcond=None)[0]
        assert np.abs(outputs @ solution - projected[:, n]).max() < 1e-4
        assert np.linalg.matrix_rank(projected[:, n]) == DIM
    assert np.abs(projected[:, 0] - projected[:, 1]).max() > 1
    components = np.concatenate(of(measured, found, "backbone"))
    assert components.shape == (50, 2, DIM)
    np.testing.assert_array_equal(components[:, 0], components[:, 1])
    variances, axes = np.linalg.eigh(np.cov(outputs.T))
    expected = (outputs - outputs.mean(axis=0)) @ axes[:, ::-1][:, :DIM]
    signs = np.sign((expected * components[:, 0]).sum(axis=0))
    np.testing.assert_allclose(components[:, 0] * signs, expected, atol=1e-4)
    assert variances[-DIM:].min() > variances[: WIDTH - DIM].max()


def test_what_belongs_to_no_attribute_is_not_measured(rng, measured):
    made = material(rng, gallery=9, held_out=6)
    space, _ = measure(made, "hybrid")
    assert space.gallery.shape[1] > 2
    own = next(call for call in measured if "kinds" not in call)
    np.testing.assert_array_equal(own["features"], make_space("posterior", made).gallery)


def test_without_validation_images_the_gallery_is_all_there_is(rng, measured):
    _, found = measure(material(rng, gallery=9, held_out=0))
    assert all(call["extra"] is None for call in measured)
    assert found["controls"]["backbone"]["mean"] in (1, 2, 3, 4)


@pytest.mark.parametrize("gallery", [0, 4])
def test_below_five_images_nothing_is_measured(rng, measured, gallery):
    made = material(rng, gallery=gallery)
    assert measure(made)[1] is None
    assert measured == []


@pytest.mark.long
def test_a_tiny_gallery_has_an_entry_without_numbers(rng):
    """Five images are as many as there are folds, and too few to measure anything on."""
    made = material(rng, gallery=5)
    space, found = measure(made)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["attributes"] == list(SCHEMA.names)
    assert found["mean"] is found["controls"]["backbone"]["mean"] is None
    extra = np.asarray(space.held_out), made.held_out.labels
    whole = measure_leakage(np.asarray(space.gallery), made.gallery.labels, SCHEMA, extra=extra)
    assert {name: found[name] for name in found if name != "controls"} == whole.as_json(SCHEMA)


def test_it_may_be_ended_before_each_measurement(rng, measured):
    made = material(rng, gallery=9, held_out=6)

    def raise_if_cancelled():
        if len(measured) == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        leakage_of_run(
            made, make_space("features", made), progress=False, raise_if_cancelled=raise_if_cancelled
        )
    assert len(measured) == 2


def test_what_was_measured_is_kept(rng, measured, tmp_path):
    """Another representation has controls that are the same; other labels have nothing that is."""
    made = material(rng, gallery=9, held_out=6)

    def found(made, name="features"):
        return leakage_of_run(made, make_space(name, made), cache=tmp_path, progress=False)

    first = found(made)
    assert found(made) == first
    assert len(measured) == 4
    of_hybrid = found(made, "hybrid")
    assert of_hybrid["controls"] == first["controls"]
    assert (of_hybrid["mean"], len(measured)) == (5, 5)
    labels = np.roll(made.gallery.labels, 1, axis=0)
    found(made._replace(gallery=made.gallery._replace(labels=labels)))
    assert len(measured) == 9
