"""Fields of the protocol of an evaluation."""

import math
from typing import Any

from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.core.replacement import EDITS
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.data.changes import KINDS
from gradrev_jax.systems.field import Field, Rule, any_of, at_least, one_of, some_of

CHOSEN = "validation"  # as a strength, or as weights: chosen on the validation part
NO_WEIGHTS = "none"
BASELINES = ("oracle", "random", "backbone", "posterior", "erased", "erased_given_own")
# Weights as the field gives them: those of all attributes in their order, or those of some by name.
GivenWeights = tuple[float, ...] | dict[str, float]


def is_strength(value: Any) -> bool:
    """Returns whether a value of ``protocol.strength`` is a finite number or ``validation``.

    Example:
      >>> is_strength("0.5"), is_strength("validation"), is_strength("nan")
      (True, True, False)
    """
    if value == CHOSEN:
        return True
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def is_look(value: Any) -> bool:
    """Returns whether a value of ``protocol.look`` is a finite number from 0 or ``validation``.

    Example:
      >>> is_look("0.5"), is_look("validation"), is_look("-1")
      (True, True, False)
    """
    return value == CHOSEN or (is_strength(value) and float(value) >= 0)


def parse_weights(text: str) -> GivenWeights:
    """Reads weights that are given as numbers.

    Args:
      text: numbers in the order of the attributes, or name=number for some of them, separated by commas.

    Raises:
      ValueError: a number that is negative, not finite or none, a name twice, or names beside bare numbers.

    Example:
      >>> parse_weights("1,0.5,2"), parse_weights("color=2, size (EU)=0.5")
      ((1.0, 0.5, 2.0), {'color': 2.0, 'size (EU)': 0.5})
    """
    items = [item.rpartition("=") for item in text.split(",")]
    numbers = [float(number) for *_, number in items]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(f"weights must be finite and not below 0, got {text!r}")
    names = [name.strip() for name, sign, _ in items if sign]
    if not names:
        return tuple(numbers)
    if len(set(names)) < len(items):
        raise ValueError(f"weights must all have a name, each another, or none of them one; got {text!r}")
    return dict(zip(names, numbers, strict=True))


def is_weights(value: Any) -> bool:
    """Returns whether a value of ``protocol.weights`` can be read.

    Example:
      >>> is_weights("color=2"), is_weights("validation"), is_weights("-1,2")
      (True, True, False)
    """
    if value in (CHOSEN, NO_WEIGHTS):
        return True
    try:
        parse_weights(value)
    except ValueError:
        return False
    return True


PROTOCOL_FIELDS = {
    "ks": Field(
        default=(1, 2, 3, 4, 5, 10, 20, 30, 40, 50),
        meaning="Cut-offs K of the metrics.",
        rule=Rule(
            "one or more whole numbers from 1",
            lambda value: bool(value) and all(isinstance(k, int) and k >= 1 for k in value),
        ),
        paper="Section 4.3",
        descriptive=False,
    ),
    "num_references": Field(
        default=0,
        meaning="Number of reference images drawn for the queries; 0: every test image.",
        rule=at_least(0),
        same_test=True,
    ),
    "kinds": Field(
        default=("swap", "add"),
        meaning="Kinds of changes asked for: `swap`, `add`, `remove`.",
        rule=some_of(KINDS),
        same_test=True,
    ),
    "num_changes": Field(
        default=1,
        meaning="Number of attributes that change at once.",
        rule=at_least(1),
        same_test=True,
    ),
    "exclude_query": Field(
        default=False,
        meaning="Whether the query image itself is left out of its result.",
        same_test=True,
    ),
    "strength": Field(
        default="1",
        meaning="Strength s of a manipulation, f' = f + s * M i: a number (1 is Eq. 7), or `validation` for "
        "the best on the held-out part.",
        rule=Rule("a number, or validation", is_strength),
        paper="Eq. 7",
    ),
    "weights": Field(
        default=NO_WEIGHTS,
        meaning="Weight of each attribute in the distance of retrieval: `none`; numbers in the order of the "
        "attributes, as `1,0.5,2`, or by name, as `color=2,size=0.5`, where all others are 1; or "
        "`validation` for those chosen on the held-out part. 0 leaves an attribute out.",
        rule=Rule("none, validation, numbers from 0 or name=number, separated by commas", is_weights),
        earlier=NO_WEIGHTS,
    ),
    "select_on_test": Field(
        default=False,
        meaning="Whether training chooses the best checkpoint on the test part, as ADDE does, which "
        "flatters.",
    ),
    "normalize": Field(
        default="global",
        meaning="L2 normalisation of the features: `global` (of their concatenation), `attribute` (of each), "
        "`none`, or `validation` for the best on the held-out part.",
        rule=one_of((*NORMALIZATIONS, CHOSEN)),
    ),
    "representation": Field(
        default="features",
        meaning="What is compared; the paper compares `features`. "
        + "; ".join(f"`{name}`: {each.meaning}" for name, each in REPRESENTATIONS.items())
        + ".",
        rule=one_of(REPRESENTATIONS),
        earlier="features",
    ),
    "look": Field(
        default="0.5",
        meaning="Weight of the backbone's embedding in the representation `hybrid`: 0 compares only what "
        "labels say, more also how an image looks; `validation`: the most up to 1 that costs no match on the "
        "held-out part.",
        rule=Rule("a number from 0, or validation", is_look),
        earlier="0.5",
    ),
    "edit": Field(
        default="add",
        meaning="Edit of a feature: `add` adds and removes prototypes (Eq. 7), `replace` puts the new "
        "value's prototype in place of the attribute's feature; `validation`: the better on the held-out "
        "part.",
        rule=one_of((*EDITS, CHOSEN)),
        earlier="add",
    ),
    "baselines": Field(
        default=BASELINES,
        meaning="Baselines that are searched, too: " + ", ".join(f"`{name}`" for name in BASELINES) + ".",
        rule=any_of(BASELINES),
        descriptive=False,
        earlier=BASELINES,
    ),
    "leakage": Field(
        default=True,
        meaning="Whether fresh classifiers measure how much of the other attributes can be read from what is "
        "compared of each.",
        descriptive=False,
        earlier=True,
    ),
    "batch_size": Field(default=128, meaning="Images encoded at once.", rule=at_least(1), descriptive=False),
}
