"""Reads how a run is evaluated from its config, and makes the queries that this protocol asks."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import NOT_LABELLED, AttributeSchema
from gradrev_jax.core.feature_blocks import FeatureBlocks
from gradrev_jax.core.normalization import Normalization, scale_weights
from gradrev_jax.core.replacement import Edit
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.data.catalogue import TEST, Catalogue
from gradrev_jax.data.changes import Kind, count_in_words
from gradrev_jax.data.queries import Queries, generate_queries
from gradrev_jax.errors import ConfigError, DataError, did_you_mean, naming
from gradrev_jax.runs.fields.protocol import CHOSEN, NO_WEIGHTS, GivenWeights, parse_weights


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Represents how a run is evaluated (Section 4.3): the section ``protocol`` of its config.

    Attributes:
      ks: the cut-offs K of the metrics.
      kinds: the kinds of changes that generated queries ask for.
      num_changes: the number of attributes that a generated query changes.
      num_references: the number of reference images that the queries are drawn from; None: every test image.
      exclude_query: whether the query image itself is left out of its result.
      strength: the factor of the prototypes that a manipulation adds and removes; None: the factor that
        serves best on the validation part.
      weights: the weights of the attributes in the distance: ``none``, ``validation`` for those that serve
        best on the validation part, or numbers; see ``given_weights``.
      normalize: the L2 normalisation of the features; None: the one that serves best on the validation part.
      representation: what is compared, a name of ``REPRESENTATIONS``.
      look: the weight of the backbone's embedding where the representation has one; None: the most that
        costs no match on the validation part.
      edit: the edit of a feature; None: the one that serves best on the validation part.
      baselines: the baselines that are searched, too.
      leakage: whether the leakage of the features is measured.
      batch_size: the number of images encoded at once.
      select_on_test: whether training chooses its best checkpoint on the test part.
    """

    ks: tuple[int, ...]
    kinds: tuple[Kind, ...]
    num_changes: int
    num_references: int | None
    exclude_query: bool
    strength: float | None
    weights: Literal["none", "validation"] | GivenWeights
    normalize: Normalization | None
    representation: str
    look: float | None
    edit: Edit | None
    baselines: tuple[str, ...]
    leakage: bool
    batch_size: int
    select_on_test: bool

    @property
    def chooses_weights(self) -> bool:
        """Returns whether the weights are chosen on the validation part."""
        return self.weights == CHOSEN

    @property
    def fixed_normalize(self) -> Normalization | None:
        """The normalisation: the representation's own, or that of the config; None: validation chooses it."""
        return REPRESENTATIONS[self.representation].normalize or self.normalize


def build_protocol(config: ConfigDict) -> Protocol:
    """Returns the protocol of a run, whose config was checked."""
    fields = config.protocol
    return Protocol(
        ks=tuple(fields.ks),
        kinds=tuple(fields.kinds),
        num_changes=fields.num_changes,
        num_references=fields.num_references or None,
        exclude_query=fields.exclude_query,
        strength=None if fields.strength == CHOSEN else float(fields.strength),
        weights=fields.weights if fields.weights in (CHOSEN, NO_WEIGHTS) else parse_weights(fields.weights),
        normalize=None if fields.normalize == CHOSEN else fields.normalize,
        representation=fields.representation,
        look=None if fields.look == CHOSEN else float(fields.look),
        edit=None if fields.edit == CHOSEN else fields.edit,
        baselines=tuple(fields.baselines),
        leakage=fields.leakage,
        batch_size=fields.batch_size,
        select_on_test=fields.select_on_test,
    )


def check_protocol(protocol: Protocol, catalogue: Catalogue) -> None:
    """Checks that a catalogue has the attributes and the test images that a protocol needs.

    Raises:
      ConfigError: the gallery has fewer images than the largest cut-off, generated queries are to change
        more attributes at once than there are, or the weights are those of other attributes.
    """
    given_weights(protocol, catalogue.schema)
    if catalogue.queries is None:
        check_num_changes("protocol.num_changes", protocol.num_changes, catalogue.schema)
    gallery, largest = len(catalogue.parts[TEST]), max(protocol.ks)
    if protocol.exclude_query:
        gallery -= 1
    if largest > gallery:
        besides = " besides the query" if protocol.exclude_query else ""
        images = f"{gallery} image{'' if gallery == 1 else 's'}{besides}"
        kept = tuple(k for k in protocol.ks if k <= gallery) or (gallery,)
        advice = (
            f"leave out what is above {gallery}, as --config.protocol.ks='{kept}' for train.py or "
            f"--protocol.ks='{kept}' for evaluate.py"
            if gallery
            else "the test part needs more images"
        )
        raise ConfigError(
            f"protocol.ks asks for the {largest} nearest, but the gallery (the test part) has {images}; "
            f"{advice}"
        )


def check_compared(protocol: Protocol, blocks: FeatureBlocks, system: str, *, is_learned: bool) -> None:
    """Checks that a protocol compares and edits features in a way that the system has.

    Args:
      protocol: the protocol.
      blocks: the blocks of the system's features.
      system: its name, for messages.
      is_learned: whether its features are edited by what stage 2 has learned.

    Raises:
      ConfigError: it does not.
    """
    representation = REPRESENTATIONS[protocol.representation]
    others = " or ".join(name for name, each in REPRESENTATIONS.items() if each.reads != "blocks")
    if representation.reads == "blocks" and not blocks.are_own:
        raise ConfigError(
            f"protocol.representation = {protocol.representation!r} needs a feature of its own for every "
            f"attribute, which the system {system!r} has not; give {others}"
        )
    if representation.reads != "features":
        return
    if protocol.edit == "replace" and (is_learned or not blocks.are_own):
        reason = "edits by what it has learned" if is_learned else "has no block for each attribute"
        raise ConfigError(
            f"protocol.edit = 'replace' cannot be, because the system {system!r} {reason}; give add or "
            "validation"
        )
    if not isinstance(protocol.weights, str) and not blocks.are_own:
        raise ConfigError(
            f"protocol.weights cannot give numbers, because the system {system!r} has no block for each "
            f"attribute; give {NO_WEIGHTS} or {CHOSEN}"
        )


def validation_choices(
    protocol: Protocol, blocks: FeatureBlocks, schema: AttributeSchema, *, is_learned: bool
) -> list[str]:
    """Returns the fields that an evaluation chooses on the validation part.

    A field that is left to it counts only if the system leaves a choice.

    Args:
      protocol: the protocol.
      blocks: the blocks of the system's features.
      schema: the attributes.
      is_learned: whether its features are edited by what stage 2 has learned.
    """
    representation = REPRESENTATIONS[protocol.representation]
    are_features = representation.reads == "features"
    has_edits = not (are_features and (is_learned or not blocks.are_own))
    has_weights = not are_features or blocks.count >= schema.num_attributes
    chosen = {
        "strength": protocol.strength is None,
        "normalize": protocol.fixed_normalize is None,
        "edit": protocol.edit is None and has_edits,
        "weights": protocol.chooses_weights and has_weights,
        "look": protocol.look is None and representation.has_look,
    }
    return [field for field, is_chosen in chosen.items() if is_chosen]


def check_num_changes(field: str, num_changes: int, schema: AttributeSchema) -> None:
    """Checks that a config field changes no more attributes at once than a catalogue has.

    Raises:
      ConfigError: it does.
    """
    most = schema.num_attributes
    if num_changes > most:
        names = ", ".join(schema.names[:10]) + (", ..." if most > 10 else "")
        raise ConfigError(
            f"{field} = {num_changes}: at most {most}, as many attributes as the catalogue has ({names})"
        )


def given_weights(protocol: Protocol, schema: AttributeSchema) -> Float[np.ndarray, " N"] | None:
    """Returns the weights of the attributes that a protocol gives as numbers, with a mean square of 1.

    Args:
      protocol: the protocol.
      schema: the attributes.

    Returns:
      [N]; None if it gives no numbers.

    Raises:
      ConfigError: a name that is no attribute, another number of weights, or all of them 0.
    """
    given, names = protocol.weights, schema.names
    if isinstance(given, str):
        return None
    if isinstance(given, dict):
        for name in given:
            if name not in names:
                hint = did_you_mean(name, names, otherwise=f"the catalogue has {', '.join(names)}")
                raise ConfigError(
                    f"protocol.weights has a weight for {name!r}, which is no attribute: {hint}"
                )
        numbers = [given.get(name, 1.0) for name in names]
    else:
        numbers = list(given)
    if len(numbers) != len(names):
        raise ConfigError(
            f"protocol.weights gives {len(numbers)} numbers, but the catalogue has {len(names)} attributes, "
            f"in this order: {', '.join(names)}; give one for each, or name them, as {names[0]}=2"
        )
    try:
        scaled = scale_weights(numbers, len(names))
    except ValueError as error:
        raise ConfigError(
            f"protocol.{error}: an attribute of weight 0 is left out of the distance"
        ) from error
    return np.ones(len(names)) if scaled is None else scaled


def evaluation_queries(catalogue: Catalogue, protocol: Protocol, seed: int) -> Queries:
    """Returns the queries that a run is evaluated with.

    Raises:
      DataError: no query can be asked, or no test image is labelled.
    """
    if (catalogue.part_labels(TEST) == NOT_LABELLED).all():
        raise DataError("no test image is labelled, so there is nothing to evaluate")
    queries = queries_of(catalogue, TEST, protocol, seed)
    if not len(queries):
        raise DataError(
            "no query can be asked: no test image has the labels of another with "
            f"{count_in_words(protocol.num_changes)} changed ({', '.join(protocol.kinds)}); use more test "
            "images, fewer attributes (data.attributes), or other protocol.kinds or protocol.num_changes"
        )
    return queries


def queries_of(catalogue: Catalogue, part: str, protocol: Protocol, seed: int) -> Queries:
    """Returns the queries whose gallery is a part: those that come with the catalogue, or generated ones.

    Args:
      catalogue: the images and their labels.
      part: the part that is searched.
      protocol: the changes that generated queries ask for, and the number of reference images.
      seed: the seed that draws the reference images.

    Raises:
      ConfigError: more attributes are to change at once than there are.
      DataError: there are too many queries for the memory.
    """
    if part == TEST and catalogue.queries is not None:
        return catalogue.queries.sample_references(protocol.num_references, seed)
    check_num_changes("protocol.num_changes", protocol.num_changes, catalogue.schema)
    with naming("protocol.{}", {"schema": "data.min_count, data.ignore"}):
        return generate_queries(
            catalogue.part_labels(part),
            catalogue.schema,
            kinds=protocol.kinds,
            num_changes=protocol.num_changes,
            num_references=protocol.num_references,
            seed=seed,
        )


def check_queries(queries: Queries, field: str) -> None:
    """Checks that there is a query to choose a field of the protocol by.

    Raises:
      DataError: there is none.
    """
    if not len(queries):
        raise DataError(
            f"protocol.{field}=validation has no query to choose by: no held-out image has the labels of "
            "another with as many attributes changed as protocol.num_changes says, in the ways of "
            "protocol.kinds; hold out more (train.validation_fraction), or give a value"
        )
