import dataclasses

import numpy as np
import pytest

from gradrev_jax.errors import DataError
from gradrev_jax.runs import builders, workdir
from gradrev_jax.training.opening import make_plan, open_data, read_history, with_earlier_values


def test_fields_that_a_run_of_an_earlier_version_keeps_are_named(tiny_config, tmp_path, capsys):
    """It went on with them without a word, whatever the config said."""
    assert with_earlier_values(tiny_config, tmp_path) is tiny_config, "no run is there"
    workdir.write_json(tmp_path / "config.json", {"seed": 0})
    tiny_config.data.missing = "value"
    assert with_earlier_values(tiny_config, tmp_path).data.missing == "ignore"
    said = "".join(capsys.readouterr())
    assert f"{tmp_path} was begun by an earlier version, and goes on as it was: " in said
    assert "data.missing='ignore'" in said
    assert tiny_config.data.missing == "value", "the config that was given stays as it is"
    tiny_config.data.missing = "ignore"
    with_earlier_values(tiny_config, tmp_path)
    assert "data.missing=" not in "".join(capsys.readouterr())


def planned(config, directory):
    return make_plan(config, directory, read_history(directory))


def opened(config, directory):
    return open_data(planned(config, directory), progress=False)


@pytest.fixture
def without_labels(monkeypatch):
    """A function that takes the training labels of some attributes away."""
    plain = builders.open_catalogue

    def take(attributes):
        def open_catalogue(*given):
            catalogue = plain(*given)
            labels = catalogue.labels.copy()
            labels[np.ix_(catalogue.parts["train"], attributes)] = -1
            return dataclasses.replace(catalogue, labels=labels)

        monkeypatch.setattr(builders, "open_catalogue", open_catalogue)

    return take


def test_a_training_part_without_a_label_is_refused(tiny_config, tmp_path, without_labels):
    """Found by use: it was trained to the end, at a loss of 0."""
    without_labels(range(6))
    with pytest.raises(DataError, match="no training image is labelled, so there is nothing to learn"):
        planned(tiny_config, tmp_path / "run")


def test_an_attribute_without_a_training_label_is_named(tiny_config, tmp_path, without_labels, capsys):
    without_labels([2])
    plan = planned(tiny_config, tmp_path / "run")
    name = plan.catalogue.schema.names[2]
    assert f"no training image is labelled for {name}, so nothing is learned of it" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["strength", "normalize", "edit", "weights", "look"])
def test_what_cannot_be_chosen_later_is_refused_before_training(tiny_config, tmp_path, field):
    """Found by use: the evaluation ended with this, and only another training helped."""
    tiny_config.protocol.strength = "1"
    tiny_config.protocol.representation = "hybrid" if field == "look" else "features"
    tiny_config.protocol[field] = "validation"
    tiny_config.train.validation_fraction = 0.0
    with pytest.raises(DataError, match=f"protocol.{field}=validation has no query to choose by"):
        opened(tiny_config, tmp_path / "run")


def test_more_queries_than_fit_in_memory_are_refused_before_training(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("gradrev_jax.data.queries.LARGEST_QUERIES", 0)
    with pytest.raises(DataError, match=r"queries of .* \(config: protocol.num_references, data.min_count, "):
        opened(tiny_config, tmp_path / "run")
