"""One config field: its default, its meaning, and the rules that hold for it."""

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from gradrev_jax.errors import did_you_mean

SAME_AS_DEFAULT = object()


class Rule(NamedTuple):
    """A condition on the value of a field.

    Attributes:
      text: the values that are allowed, in words, as messages and the reference page have them.
      holds: returns whether a value is allowed.
      words: the words that are allowed, where they are known.
    """

    text: str
    holds: Callable[[Any], bool]
    words: Collection[str] = ()

    def problem(self, value: Any) -> str:
        """Returns the values that are allowed, with the words that are near to those of a value.

        Example:
          >>> one_of(("step", "cosine")).problem("cosin")
          'one of step, cosine; did you mean cosine?'
        """
        given = [value] if isinstance(value, str) else value if isinstance(value, tuple | list) else []
        hints = [
            did_you_mean(word, self.words, otherwise="")
            for word in given
            if isinstance(word, str) and word not in self.words
        ]
        return "; ".join([self.text, *filter(None, hints)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """All that is known of one config field.

    Attributes:
      default: the value that a new run has; None where the field is unset.
      meaning: what the field decides, with its unit and, where it has choices, what each of them does.
      kind: the type of the values, where the default does not tell it because it is None.
      rule: the condition on a value that is set; None: any value of the type.
      paper: the section, equation or table of the paper that the default is taken from.
      resumable: whether a run may go on with another value, because the field decides where the run ends and
        what is kept or shown, and never what a step computes.
      movable: whether evaluation may be given another value: the field says where files lie, or which of
        their columns are read, which have to be the run's attributes in any case.
      same_test: whether runs must agree in it to be compared, because it decides which images and queries
        they are tested on.
      descriptive: whether a comparison shows runs that differ in it as different systems.
      earlier: what the field stood for in runs of versions that did not have it, where this is not its
        default. Every field that is added after a release has to say it, but for those of one system or one
        format of the catalogue, which other runs do not read.
      formerly: the name that the field had within its section in earlier versions; None: always this one.
    """

    default: Any
    meaning: str
    kind: type | None = None
    rule: Rule | None = None
    paper: str = ""
    resumable: bool = False
    movable: bool = False
    same_test: bool = False
    descriptive: bool = True
    earlier: Any = SAME_AS_DEFAULT
    formerly: str | None = None

    def problem(self, value: Any) -> str | None:
        """Returns the values that are allowed, if a value is not; an unset optional field is always allowed.

        Example:
          >>> field = Field(default=1, meaning="images per batch", rule=at_least(1))
          >>> field.problem(0), field.problem(2)
          ('at least 1', None)
        """
        if value is None:
            return None if self.default is None else f"a value, such as {self.default!r}"
        return None if self.rule is None or self.rule.holds(value) else self.rule.problem(value)


def at_least(least: int | float) -> Rule:
    """Creates the rule that a value is finite and not below a number."""
    return Rule(f"at least {least}", lambda value: value >= least and math.isfinite(value))


def one_of(choices: Collection[str]) -> Rule:
    """Creates the rule that a value is one of a few words."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def some_of(choices: Collection[str]) -> Rule:
    """Creates the rule that a value is a non-empty sequence of a few words."""
    return Rule(
        f"some of {', '.join(choices)}", lambda value: bool(value) and set(value) <= set(choices), choices
    )


def any_of(choices: Collection[str]) -> Rule:
    """Creates the rule that a value is a sequence of a few words, which may be empty."""
    return Rule(f"some or none of {', '.join(choices)}", lambda value: set(value) <= set(choices), choices)


def number() -> Rule:
    """Creates the rule that a value is a finite number."""
    return Rule("a number", math.isfinite)
