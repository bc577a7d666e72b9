"""An attribute that no image of a part, or of the whole catalogue, is labelled for: trained and evaluated."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from gradrev_jax.errors import DataError
from gradrev_jax.evaluation.run import evaluate
from gradrev_jax.runs import formats
from gradrev_jax.training.run import train
from gradrev_jax.training.update import all_finite

pytestmark = pytest.mark.usefixtures("small_backbone")

LENGTH = 2  # the position of the attribute among those of garments


@pytest.fixture
def hide(monkeypatch):
    """Hides the labels of some attributes in some parts of all catalogues."""
    draw = formats.garments_catalogue

    def hide_labels(attributes, *parts):
        def draw_hidden(**settings):
            catalogue = draw(**settings)
            labels = catalogue.labels.copy()
            labels[np.ix_(catalogue.rows(*parts), attributes)] = -1
            return dataclasses.replace(catalogue, labels=labels)

        monkeypatch.setattr(formats, "garments_catalogue", draw_hidden)

    return hide_labels


@pytest.fixture
def config(tiny_config):
    tiny_config.model.backbone = "small"
    tiny_config.train.max_steps = 2
    tiny_config.train.loggers = ()
    return tiny_config


@pytest.mark.long
@pytest.mark.parametrize("parts", [("train", "test"), ("train",)])
def test_an_attribute_that_nothing_is_labelled_for_has_no_number_in_the_report(config, hide, tmp_path, parts):
    hide([LENGTH], *parts)
    assert all_finite(jax.device_get(train(config, tmp_path / "run", progress=False)))
    metrics = evaluate(tmp_path / "run", progress=False)
    accuracy = metrics["attribute_accuracy"]["per_attribute"]
    assert ("length" in accuracy) == (parts == ("train",))
    np.testing.assert_allclose(metrics["attribute_accuracy"]["macro"], np.mean(list(accuracy.values())))
    report = (tmp_path / "run" / "report" / "report.md").read_text(encoding="utf-8")
    assert ("| length | – | – |" in report) == ("length" not in accuracy)
    without = json.dumps(metrics["prototypes_without_images"])
    assert "length" in without
    numbers = [value for value in jax.tree.leaves(metrics) if isinstance(value, float)]
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [(("train", "test"), "no training image is labelled"), (("test",), "no test image is labelled")],
)
def test_a_part_without_any_label_is_refused_before_anything_is_written(
    config, hide, tmp_path, parts, message
):
    hide(range(6), *parts)
    with pytest.raises(DataError, match=message):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
