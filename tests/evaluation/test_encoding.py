import dataclasses

import jax
import numpy as np
import pytest

from gradrev_jax.core.feature_blocks import FeatureBlocks
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


def with_encoder(run, **changed):
    """The run with an encoder of another class, some properties of which are other values."""
    encoder = run.encoder
    fields = [field.name for field in dataclasses.fields(encoder) if field.name not in ("parent", "name")]
    values = {name: property(lambda _, value=value: value) for name, value in changed.items()}
    other = type("Other", (type(encoder),), {"__module__": __name__, **values})
    return dataclasses.replace(run, encoder=other(**{name: getattr(encoder, name) for name in fields}))


def with_another_network(run):
    return with_encoder(run, inputs=dataclasses.replace(run.encoder.inputs, mean=(0.4, 0.4, 0.4)))


def with_other_blocks(run):
    """Gives the same network features that are those of the attributes in another order."""
    blocks = run.encoder.blocks
    return with_encoder(run, blocks=FeatureBlocks(blocks.of_attribute[::-1], blocks.count))


@pytest.mark.parametrize(
    "change",
    [with_other_images, with_other_labels, with_other_params, with_another_network, with_other_blocks],
)
def test_they_are_computed_anew_if_anything_is_another(run, counted, change):
    before = memory_of(run)
    after = memory_of(change(run))
    assert len(counted) == 2
    assert np.abs(after - before).max() > 1e-7


def test_they_are_computed_if_no_text_says_all_of_the_program(run, counted, monkeypatch):
    monkeypatch.setattr(encoding, "forward_program", lambda *_, **__: None)
    for _ in range(2):
        memory_of(run)
    assert len(counted) == 2


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
