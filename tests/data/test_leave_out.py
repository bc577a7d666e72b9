import dataclasses

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.changes import indicators_between
from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
from gradrev_jax.data.leave_out import leave_out
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.data.triplets import Triplets, generate_triplets
from gradrev_jax.data.unlabelled import Nuisances, Unlabelled
from gradrev_jax.errors import ConfigError


@pytest.fixture
def whole():
    """Garments that come with queries of one and of two changes, and with triplets."""
    catalogue = garments_catalogue(count=600, missing=0.1)
    schema = catalogue.schema
    one, two = (
        generate_queries(catalogue.part_labels("test"), schema, num_changes=changes) for changes in (1, 2)
    )
    columns = zip(vars(one).values(), vars(two).values(), strict=True)
    queries = Queries(*(np.concatenate(pair) for pair in columns))
    triplets = generate_triplets(catalogue.part_labels("train"), schema, count=400)
    triplets = triplets.renumber(catalogue.parts["train"])
    return dataclasses.replace(catalogue, queries=queries, triplets=triplets)


def names_of(schema, indicators):
    """The values that an indicator adds and removes, by name."""
    return {
        (schema.names[schema.attribute_of[j]], schema.value_name(j), int(indicators[j]))
        for j in np.flatnonzero(indicators).tolist()
    }


def test_labels_move_beside_the_catalogue_and_nothing_else_changes(whole):
    rest = leave_out(whole, ("pattern", "category"))
    assert rest.schema.names == ("color", "length", "neckline", "sleeve")
    assert rest.unlabelled.schema.names == ("category", "pattern")
    for schema, labels in ((rest.schema, rest.labels), (rest.unlabelled.schema, rest.unlabelled.labels)):
        for n, name in enumerate(schema.names):
            column = whole.schema.names.index(name)
            assert schema.values[n] == whole.schema.values[column]
            np.testing.assert_array_equal(labels[:, n], whole.labels[:, column])
    assert rest.images is whole.images
    assert rest.parts is whole.parts


def test_without_a_name_the_catalogue_stays_as_it_is(whole):
    assert leave_out(whole, ()) is whole


def test_queries_about_the_others_remain_and_ask_the_same(whole):
    gone = {"pattern", "category"}
    rest = leave_out(whole, gone)
    expected = []
    for query in range(len(whole.queries)):
        changed = {whole.schema.names[n] for n in np.flatnonzero(whole.queries.changed[query])}
        if not changed & gone:
            asked = names_of(whole.schema, whole.queries.indicators[query])
            words = dict(zip(whole.schema.names, whole.queries.targets[query].tolist(), strict=True))
            kept = {name: label for name, label in words.items() if name not in gone}
            expected.append((whole.queries.reference[query], asked, kept, changed))
    found = [
        (
            rest.queries.reference[query],
            names_of(rest.schema, rest.queries.indicators[query]),
            dict(zip(rest.schema.names, rest.queries.targets[query].tolist(), strict=True)),
            {rest.schema.names[n] for n in np.flatnonzero(rest.queries.changed[query])},
        )
        for query in range(len(rest.queries))
    ]
    assert found == expected
    assert 0 < len(found) < len(whole.queries)


def test_triplets_remain_that_are_triplets_without_the_attributes(whole):
    rest, columns = leave_out(whole, ("color",)), [0, 2, 3, 4, 5]
    before, expected = whole.triplets, []
    for reference, positive, negative, indicators in zip(*vars(before).values(), strict=True):
        asked = names_of(whole.schema, indicators)
        if any(name == "color" for name, *_ in asked):
            continue
        if whole.labels[positive][columns].tolist() != whole.labels[negative][columns].tolist():
            expected.append((reference, positive, negative, asked))
    found = [
        (reference, positive, negative, names_of(rest.schema, indicators))
        for reference, positive, negative, indicators in zip(*vars(rest.triplets).values(), strict=True)
    ]
    assert found == expected
    assert 0 < len(found) < len(before)


def test_a_negative_that_only_the_attribute_told_apart_goes():
    schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
    catalogue = garments_catalogue(count=10)
    labels = np.array([[0, 0], [0, 1], [1, 1], [0, 0]] + [[0, 0]] * 6, np.int32)
    change = indicators_between(labels[:1], labels[1:2], schema)
    triplets = Triplets(*np.array([[0, 0], [1, 1], [2, 3]]), np.repeat(change, 2, axis=0))
    catalogue = dataclasses.replace(catalogue, schema=schema, labels=labels, triplets=triplets)
    rest = leave_out(catalogue, ("color",)).triplets
    assert [column.tolist() for column in vars(rest).values()] == [[0], [1], [3], [[-1, 1]]]


def test_names_that_cannot_be_left_out_are_told(whole):
    with pytest.raises(
        ConfigError, match="`left_out` has 'colour', which is no attribute.*did you mean color"
    ):
        leave_out(whole, ("pattern", "colour"))
    with pytest.raises(ConfigError, match="`left_out` has all attributes .*keep at least one"):
        leave_out(whole, whole.schema.names)


def test_what_stands_beside_a_catalogue_has_its_rows(whole):
    rest = leave_out(whole, ("color",))
    short = Unlabelled(rest.unlabelled.schema, rest.unlabelled.labels[:-1])
    with pytest.raises(ValueError, match="600 images but 599 rows beside"):
        dataclasses.replace(rest, unlabelled=short)
    with pytest.raises(ValueError, match="600 images but 5 rows beside"):
        dataclasses.replace(rest, nuisances=Nuisances(("hue",), np.zeros((5, 1)), (1.0,)))
    with pytest.raises(
        ValueError, match="2 names of nuisances need as many columns and periods, got 1 and 1"
    ):
        Nuisances(("hue", "size"), np.zeros((5, 1)), (1.0,))
    with pytest.raises(ValueError, match="unlabelled: label 9"):
        Unlabelled(rest.unlabelled.schema, np.full((600, 1), 9, np.int32))
