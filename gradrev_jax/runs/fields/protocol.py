"""Fields of the protocol of an evaluation."""

import math
from typing import Any

from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.data.changes import KINDS
from gradrev_jax.runs.field import Field, Rule, at_least, one_of, some_of

VALIDATION_STRENGTH = "validation"  # chosen on the validation part


def is_strength(value: Any) -> bool:
    """Returns whether a value of ``protocol.strength`` is a finite number or ``validation``.

    Example:
      >>> is_strength("0.5"), is_strength("validation"), is_strength("nan")
      (True, True, False)
    """
    if value == VALIDATION_STRENGTH:
        return True
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


PROTOCOL = {
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
    "select_on_test": Field(
        default=False,
        meaning="Whether training chooses the best checkpoint on the test part, as ADDE does, which "
        "flatters.",
    ),
    "normalize": Field(
        default="global",
        meaning="L2 normalisation of the features: `global` (of their concatenation), `attribute` (of each) "
        "or `none`.",
        rule=one_of(NORMALIZATIONS),
    ),
    "batch_size": Field(default=128, meaning="Images encoded at once.", rule=at_least(1), descriptive=False),
}
