import dataclasses

import jax
import numpy as np
import pytest

from gradrev_jax.core.manipulation import class_prototypes
from gradrev_jax.data.catalogue import TRAIN, VALIDATION
from gradrev_jax.evaluation import encoding
from gradrev_jax.evaluation.encoding import encode_run
from gradrev_jax.evaluation.opening import open_run
from gradrev_jax.models.inference import encode


@pytest.fixture(scope="module")
def opened(paper_run):
    """A run whose prototypes are computed."""
    return open_run(paper_run, step="best", stage=None, protocol={}, data={}, progress=False)


@pytest.fixture
def run(opened, tmp_path):
    """The same, with an empty cache."""
    assert opened.memory is None
    return dataclasses.replace(opened, cache=tmp_path)


@pytest.fixture
def counted(monkeypatch):
    """The parts whose features are summed up, of every call."""
    calls, sum_features = [], encoding.sum_features

    def sum_and_count(params, parts, *arguments, **options):
        calls.append(parts)
        return sum_features(params, parts, *arguments, **options)

    monkeypatch.setattr(encoding, "sum_features", sum_and_count)
    return calls


def memory_of(run):
    return np.asarray(encode_run(run, progress=False).material.memory)


def test_prototypes_are_the_means_of_train_and_validation_images(run, counted):
    computed, found = memory_of(run), memory_of(run)
    np.testing.assert_array_equal(found, computed)
    assert len(counted) == 1
    parts = [(run.inputs[part], run.catalogue.part_labels(part)) for part in (TRAIN, VALIDATION)]
    features = [
        encode(run.params, *part, run.encoder, batch_size=7, description="", progress=False).features
        for part in parts
    ]
    labels = np.concatenate([labels for _, labels in parts])
    np.testing.assert_allclose(
        found, class_prototypes(np.concatenate(features), labels, run.schema), atol=1e-5
    )


def with_other_images(run):
    images = run.inputs[TRAIN].copy()
    images[3] = 255 - images[3]
    return dataclasses.replace(run, inputs={**run.inputs, TRAIN: images})


def with_other_labels(run):
    labels = run.catalogue.labels.copy()
    row = run.catalogue.parts[VALIDATION][0]
    labels[row, 0] = (labels[row, 0] + 1) % run.schema.sizes[0]
    return dataclasses.replace(run, catalogue=dataclasses.replace(run.catalogue, labels=labels))


def with_other_params(run):
    return dataclasses.replace(run, params=jax.tree.map(lambda leaf: leaf * np.float32(1.01), run.params))


def with_another_network(run):
    inputs = dataclasses.replace(run.encoder.inputs, mean=(0.4, 0.4, 0.4))
    fields = [field.name for field in dataclasses.fields(run.encoder) if field.name not in ("parent", "name")]

    class Darker(type(run.encoder)):
        @property
        def inputs(self):
            return inputs

    return dataclasses.replace(run, encoder=Darker(**{name: getattr(run.encoder, name) for name in fields}))


@pytest.mark.parametrize(
    "change", [with_other_images, with_other_labels, with_other_params, with_another_network]
)
def test_they_are_computed_anew_if_anything_is_another(run, counted, change):
    before = memory_of(run)
    after = memory_of(change(run))
    assert len(counted) == 2
    assert np.abs(after - before).max() > 1e-7


def test_without_a_cache_they_are_computed(run, counted):
    for _ in range(2):
        memory_of(dataclasses.replace(run, cache=None))
    assert len(counted) == 2


def test_several_processes_compute_theirs(run, counted, monkeypatch):
    memory_of(run)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(encoding, "sum_features", lambda *_, **__: counted.append("together") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        memory_of(run)
    assert counted[-1] == "together"
