import ast
import dataclasses
import re

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.runs import builders
from gradrev_jax.runs.protocol import (
    build_protocol,
    check_protocol,
    check_queries,
    evaluation_queries,
    given_weights,
    queries_of,
    validation_choices,
)


@pytest.fixture
def catalogue(tiny_config):
    return builders.open_catalogue(tiny_config)


def test_every_field_of_the_section_reaches_the_protocol(tiny_config):
    given = {
        "ks": (2, 7),
        "kinds": ("remove",),
        "num_changes": 2,
        "num_references": 5,
        "exclude_query": True,
        "strength": "1.5",
        "weights": "color=2, size=0.5",
        "normalize": "none",
        "representation": "hybrid",
        "look": "0.25",
        "edit": "replace",
        "baselines": ("oracle", "random"),
        "leakage": True,
        "batch_size": 3,
        "select_on_test": True,
    }
    assert set(given) == set(tiny_config.protocol), "a new field needs a line here"
    tiny_config.protocol.update(given)
    assert dataclasses.asdict(build_protocol(tiny_config)) == {
        **given,
        "strength": 1.5,
        "look": 0.25,
        "weights": {"color": 2.0, "size": 0.5},
    }
    chosen = dict.fromkeys(("strength", "normalize", "edit", "look"), "validation")
    tiny_config.protocol.update({**chosen, "num_references": 0, "weights": "1, 0.5"})
    unset = build_protocol(tiny_config)
    assert all(getattr(unset, name) is None for name in (*chosen, "num_references"))
    assert unset.weights == (1.0, 0.5)
    assert not unset.chooses_weights
    tiny_config.protocol.weights = "validation"
    assert build_protocol(tiny_config).chooses_weights


WEIGHED = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("none", None),
        ("validation", None),
        ("7,1", [1.4, 0.2]),
        ("color=7", [1.4, 0.2]),
        ("size=1,color=7", [1.4, 0.2]),
        ("size=0", [2**0.5, 0]),
        ("3,3", [1, 1]),
    ],
)
def test_weights_are_given_in_the_order_of_the_attributes_or_by_name(tiny_config, weights, expected):
    tiny_config.protocol.weights = weights
    found = given_weights(build_protocol(tiny_config), WEIGHED)
    assert found is expected if expected is None else found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("colour=2", "has a weight for 'colour', which is no attribute: did you mean color?"),
        ("size=1,xyz=2", "has a weight for 'xyz', which is no attribute: the catalogue has color, size"),
        ("1,2,3", "gives 3 numbers, but the catalogue has 2 attributes, in this order: color, size; give"),
        ("0,0", "protocol.weights must not all be 0: an attribute of weight 0 is left out"),
    ],
)
def test_weights_of_other_attributes(tiny_config, weights, message):
    tiny_config.protocol.weights = weights
    with pytest.raises(ConfigError, match=re.escape(message)):
        given_weights(build_protocol(tiny_config), WEIGHED)


def test_weights_are_checked_with_the_protocol(tiny_config, catalogue):
    tiny_config.protocol.update({"weights": "1,2,3", "ks": (1,)})
    with pytest.raises(ConfigError, match=r"protocol\.weights gives 3 numbers, but the catalogue has"):
        check_protocol(build_protocol(tiny_config), catalogue)


def test_too_many_queries_are_refused_with_the_fields_that_make_them_fewer(
    tiny_config, catalogue, monkeypatch
):
    """The advice was a smaller batch_size, which is of no use."""
    monkeypatch.setattr("gradrev_jax.data.queries.LARGEST_QUERIES", 0)
    with pytest.raises(DataError, match=r"GiB of memory, and at most") as error:
        evaluation_queries(catalogue, build_protocol(tiny_config), 0)
    assert str(error.value).endswith("(config: protocol.num_references, data.min_count, data.ignore)")


def test_a_k_beyond_the_gallery_is_an_error_with_both_numbers(tiny_config, catalogue):
    tiny_config.protocol.ks = (1, 24)
    check_protocol(build_protocol(tiny_config), catalogue)
    tiny_config.protocol.ks = (25, 1)
    with pytest.raises(ConfigError, match=r"the 25 nearest, but the gallery .* has 24 images;"):
        check_protocol(build_protocol(tiny_config), catalogue)


@pytest.mark.parametrize(
    ("ks", "left", "images"),
    [((1, 5, 25), "(1, 5)", "24 images;"), ((30, 100), "(24,)", "24 images;"), ((2, 3), "(1,)", "1 image;")],
)
def test_the_cut_offs_that_are_advised_can_be_given(tiny_config, catalogue, ks, left, images):
    """Of one image, (1, 5) was advised, which led to the same error."""
    if images == "1 image;":
        catalogue = dataclasses.replace(
            catalogue, parts={**catalogue.parts, "test": catalogue.parts["test"][:1]}
        )
    tiny_config.protocol.ks = ks
    with pytest.raises(ConfigError, match=re.escape(images)) as error:
        check_protocol(build_protocol(tiny_config), catalogue)
    assert f"--config.protocol.ks='{left}' for train.py or --protocol.ks='{left}' for" in str(error.value)
    tiny_config.protocol.ks = ast.literal_eval(left)
    check_protocol(build_protocol(tiny_config), catalogue)


def test_a_gallery_of_the_query_alone_needs_more_images(tiny_config, catalogue):
    one = dataclasses.replace(catalogue, parts={**catalogue.parts, "test": catalogue.parts["test"][:1]})
    tiny_config.protocol.update({"ks": (1,), "exclude_query": True})
    with pytest.raises(ConfigError, match="has 0 images besides the query; the test part needs more images"):
        check_protocol(build_protocol(tiny_config), one)


def test_an_excluded_query_is_not_there_to_be_found(tiny_config, catalogue):
    tiny_config.protocol.update({"ks": (24,), "exclude_query": True})
    with pytest.raises(
        ConfigError, match=r"the 24 nearest, but the gallery .* has 23 images besides the query"
    ):
        check_protocol(build_protocol(tiny_config), catalogue)


@pytest.mark.parametrize("section", ["protocol", "memory"])
def test_more_changes_than_attributes_are_refused_with_their_number(tiny_config, catalogue, section):
    most = catalogue.schema.num_attributes

    def ask():
        if section == "memory":
            return builders.triplets_of(catalogue, tiny_config)
        return queries_of(catalogue, "test", build_protocol(tiny_config), tiny_config.seed)

    tiny_config[section].num_changes = most + 1
    first = catalogue.schema.names[0]
    message = rf"^{section}.num_changes = {most + 1}: at most {most}, as many attributes as .* \({first}, "
    with pytest.raises(ConfigError, match=message):
        ask()
    if section == "protocol":  # before anything is trained
        with pytest.raises(ConfigError, match=message):
            check_protocol(build_protocol(tiny_config), catalogue)
    tiny_config[section].num_changes = 1
    assert len(ask())


def test_a_test_part_that_allows_no_query_is_an_error(tiny_config, catalogue):
    protocol = build_protocol(tiny_config)
    alike = np.array(np.broadcast_to(catalogue.labels[:1], catalogue.labels.shape))
    with pytest.raises(DataError, match="no query can be asked: no test image has the labels of another"):
        evaluation_queries(dataclasses.replace(catalogue, labels=alike), protocol, 0)
    with pytest.raises(DataError, match="no test image is labelled, so there is nothing to evaluate"):
        evaluation_queries(dataclasses.replace(catalogue, labels=np.full_like(alike, -1)), protocol, 0)


def test_what_no_query_asks_for_is_said_as_it_was_asked_for(tiny_config, catalogue):
    alike = np.array(np.broadcast_to(catalogue.labels[:1], catalogue.labels.shape))
    protocol = dataclasses.replace(build_protocol(tiny_config), num_changes=2, kinds=("remove", "swap"))
    with pytest.raises(
        DataError, match=r"with 2 attributes changed \(remove, swap\).* or other protocol.kinds"
    ):
        evaluation_queries(dataclasses.replace(catalogue, labels=alike), protocol, 0)
    nothing = queries_of(dataclasses.replace(catalogue, labels=alike), "test", protocol, 0)
    with pytest.raises(DataError, match="as protocol.num_changes says, in the ways of protocol.kinds"):
        check_queries(nothing, "strength")


def test_queries_that_come_with_a_catalogue_are_asked_of_the_test_part_alone(tiny_config, catalogue):
    protocol = build_protocol(tiny_config)
    own = queries_of(catalogue, "test", protocol, 0).sample_references(2, 0)
    brought = dataclasses.replace(catalogue, queries=own)
    assert queries_of(brought, "test", protocol, 0) is own
    assert (
        len(
            np.unique(
                queries_of(brought, "test", dataclasses.replace(protocol, num_references=1), 0).reference
            )
        )
        == 1
    )
    assert len(queries_of(brought, "validation", protocol, 0).reference) >= 0
    many = dataclasses.replace(protocol, num_changes=catalogue.schema.num_attributes + 1)
    check_protocol(many, brought)  # these queries are not generated


OPEN = {"strength": "validation", "normalize": "validation", "edit": "validation", "weights": "validation"}


@pytest.mark.parametrize(
    ("blocks", "is_learned", "fields", "expected"),
    [
        (FeatureBlocks.own, False, {}, ["strength", "normalize", "edit", "weights"]),
        # One block of all: there is nothing to replace or to weigh.
        (FeatureBlocks.shared, False, {}, ["strength", "normalize"]),
        (FeatureBlocks.own, True, {}, ["strength", "normalize", "weights"]),
        # What classifiers say has a block for each attribute, its own normalisation, and a look.
        (
            FeatureBlocks.shared,
            True,
            {"representation": "hybrid", "look": "validation"},
            ["strength", "edit", "weights", "look"],
        ),
        (FeatureBlocks.own, False, {"strength": "1", "edit": "add", "weights": "none"}, ["normalize"]),
    ],
)
def test_what_is_chosen_on_the_validation_part(tiny_config, blocks, is_learned, fields, expected):
    tiny_config.protocol.update({**OPEN, "look": "0.5", **fields})
    schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
    protocol = build_protocol(tiny_config)
    chosen = validation_choices(protocol, blocks(schema), schema, is_learned=is_learned)
    assert chosen == expected
