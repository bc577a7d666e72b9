"""The paragraphs of a report that explain its tables and pictures."""

from collections.abc import Mapping

from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.evaluation.leakage_scores import FEWEST_LABELLED
from gradrev_jax.evaluation.markdown import code, describe_weights

BASELINES = {
    "no_manipulation": "No manipulation: the query image's own neighbours.",
    "oracle": "Oracle: a search with the true labels.",
    "random": "Random: any images.",
    "backbone": "Backbone: the neighbours in its output.",
    "posterior": "Posterior: the probabilities of the same classifiers, one attribute's replaced by the "
    "value asked for.",
    "erased": "Erased: the features without what a linear map tells of other attributes.",
    "erased_given_own": "Given own: without what it tells beyond the own label.",
}
NOT_MEASURED = (
    f"not measured: it takes {FEWEST_LABELLED} test images that are labelled for an attribute, not all alike"
)
CROSS_ACCURACY = (
    "Each classifier (column) on each attribute's feature (row). Off the diagonal, below chance does not "
    "mean that the information is gone: a classifier that is reliably wrong has been fooled, not starved."
)
ATTENTION = (
    "Some photographs of the test part and, for each attribute, where the model sees the value that it "
    "predicts, which is written below. The brighter, the more it sees there; the attribute's feature is read "
    "inside the box."
)


def describe_leakage(representation: str) -> str:
    """Returns in words what a picture of the leakage shows.

    Args:
      representation: the name of the representation, of whose blocks those of the attributes were measured.

    Example:
      >>> describe_leakage("features")[:97]
      'What fresh linear classifiers read of an attribute (column) from what is compared of another (row'
    """
    compared = REPRESENTATIONS[representation]
    rest = " The backbone's embedding is compared, too, and not measured: it is no attribute's."
    return (
        "What fresh linear classifiers read of an attribute (column) from what is compared of another (row: "
        f"{compared.of_attribute}), on images that the encoder did not see: 0 is the majority class, 1 is "
        "every label. Conditional: beyond what the own label of the row tells, as a fraction of what is left "
        f"to tell. Below 0, they do worse than without it.{rest if compared.has_look else ''}"
    )


def describe_way(
    representation: str,
    *,
    look: float | None,
    normalize: str,
    edit: str,
    strength: float,
    weights: Mapping[str, float] | None,
) -> str:
    """Returns in words what was compared, and how it was edited, as Markdown.

    Args:
      representation: the name of the representation.
      look: the weight of the look; None: none is compared.
      normalize: the normalisation.
      edit: the name of the edit.
      strength: its strength.
      weights: the weight of each attribute; None: all are equal.

    Example:
      >>> way = {"look": None, "normalize": "global", "edit": "add", "strength": 1.0, "weights": None}
      >>> describe_way("features", **way).split(". ")[1]
      'The edit is `add`, at strength 1.'
    """
    looked = "" if look is None else f"look {look:g}, "
    weighed = f" Weights of the attributes in the distance: {describe_weights(weights)}." if weights else ""
    return (
        f"Compared are {REPRESENTATIONS[representation].meaning} (representation {code(representation)}, "
        f"{looked}normalisation {code(normalize)}). The edit is {code(edit)}, at strength {strength:g}."
        f"{weighed}"
    )
