"""Leaves attributes out of a catalogue, and keeps their labels beside it."""

import dataclasses
from collections.abc import Collection

import numpy as np
from jaxtyping import Int

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Catalogue
from gradrev_jax.data.queries import Queries
from gradrev_jax.data.triplets import Triplets
from gradrev_jax.data.unlabelled import Unlabelled
from gradrev_jax.errors import ConfigError, did_you_mean


def leave_out(catalogue: Catalogue, left_out: Collection[str]) -> Catalogue:
    """Returns a catalogue without some of its attributes, whose labels it keeps as ``unlabelled``.

    Images and parts stay as they are, so that runs with and without the attributes compare. Of queries and
    triplets that come with the catalogue those remain that change no attribute which is left out, and of the
    triplets those whose negative still has other labels than the positive.

    Args:
      catalogue: the catalogue, with all of its attributes.
      left_out: the names of the attributes; none: the catalogue stays as it is.

    Raises:
      ConfigError: a name is no attribute, or no attribute remains.

    Example:
      >>> from gradrev_jax.data.formats.garments.catalogue import garments_catalogue
      >>> catalogue = leave_out(garments_catalogue(count=10), ("color", "pattern"))
      >>> catalogue.schema.names, catalogue.unlabelled.schema.names
      (('category', 'length', 'neckline', 'sleeve'), ('color', 'pattern'))
    """
    if not left_out:
        return catalogue
    schema = catalogue.schema
    for name in left_out:
        if name not in schema.names:
            hint = did_you_mean(name, schema.names, otherwise=f"there are {', '.join(schema.names)}")
            raise ConfigError(
                f"`left_out` has {name!r}, which is no attribute of the catalogue: {hint}",
                arguments=("left_out",),
            )
    gone = np.isin(schema.names, list(left_out))
    if gone.all():
        raise ConfigError(
            f"`left_out` has all attributes of the catalogue ({', '.join(schema.names)}), so there is "
            "nothing to train on; keep at least one",
            arguments=("left_out",),
        )
    kept, lost = np.flatnonzero(~gone), np.flatnonzero(gone)
    labels = np.ascontiguousarray(catalogue.labels[:, kept])
    values = np.flatnonzero(~gone[schema.attribute_of])
    queries, triplets = catalogue.queries, catalogue.triplets
    return dataclasses.replace(
        catalogue,
        schema=_only(schema, kept),
        labels=labels,
        queries=None if queries is None else _queries_about(queries, kept, values),
        triplets=None if triplets is None else _triplets_about(triplets, values, labels),
        unlabelled=Unlabelled(_only(schema, lost), np.ascontiguousarray(catalogue.labels[:, lost])),
    )


def _only(schema: AttributeSchema, attributes: Int[np.ndarray, " L"]) -> AttributeSchema:
    chosen = attributes.tolist()
    return AttributeSchema(tuple(schema.names[n] for n in chosen), tuple(schema.values[n] for n in chosen))


def _queries_about(
    queries: Queries, attributes: Int[np.ndarray, " L"], values: Int[np.ndarray, " V"]
) -> Queries:
    """Returns the queries that change some attributes alone, without the columns of the others."""
    chosen = queries.take(
        np.flatnonzero(queries.changed.sum(axis=1) == queries.changed[:, attributes].sum(axis=1))
    )
    return Queries(
        chosen.reference,
        chosen.indicators[:, values],
        chosen.targets[:, attributes],
        chosen.changed[:, attributes],
    )


def _triplets_about(
    triplets: Triplets, values: Int[np.ndarray, " V"], labels: Int[np.ndarray, "M L"]
) -> Triplets:
    """Returns the triplets whose change, and whose negative, differ in the remaining values and labels."""
    indicators = triplets.indicators[:, values]
    same_change = (triplets.indicators != 0).sum(axis=1) == (indicators != 0).sum(axis=1)
    differs = (labels[triplets.positive] != labels[triplets.negative]).any(axis=1)
    kept = same_change & differs
    return Triplets(
        triplets.reference[kept], triplets.positive[kept], triplets.negative[kept], indicators[kept]
    )
