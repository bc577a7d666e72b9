"""Declares what a system is: its model, what its stages minimise, and how it edits features."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import EditFunction
from gradrev_jax.models.interface import Encoder
from gradrev_jax.systems.field import Field
from gradrev_jax.systems.objective import Objective


def no_problem(config: ConfigDict) -> Iterable[str]:
    """Returns no problem with a config."""
    return ()


def fixed_field_problems(config: ConfigDict, fixed: Mapping[str, Any], reason: str) -> Iterator[str]:
    """Yields a problem for each field of a config that differs from the only value a system has.

    Args:
      config: the config.
      fixed: the values, by the fields' whole names.
      reason: the words after "because".

    Example:
      >>> config = ConfigDict({"model": {"heads": "pairwise", "width": 1.0}})
      >>> list(fixed_field_problems(config, {"model.heads": "shared", "model.width": 1}, "it has no others"))
      ["model.heads = 'pairwise': 'shared', because it has no others"]
    """
    for name, value in fixed.items():
        given = functools.reduce(operator.getitem, name.split("."), config)
        if given != value:
            yield f"{name} = {given!r}: {value!r}, because {reason}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStage:
    """Represents what stage 2 of a system trains on triplets beside the encoder, and the resulting edit.

    Stage 2 trains the tree ``{"encoder": the encoder's variables, "memory": what ``begin`` returns}``.

    Attributes:
      begin: (config, encoder, prototypes) -> the tree of arrays that is trained beside the encoder, from the
        prototypes [J, P, d] of the best encoder of stage 1 (Eq. 6). It is also traced, for shapes alone. What
        is random in it is a pure function of ``config.seed``.
      objective: (config, encoder) -> the loss of stage 2, whose targets are ``MemoryTargets``; the images are
        references, then positives, then negatives.
      make_edit: (config, encoder) -> the pure edit, a function of (the tree of stage 2, features [Q, P, d],
        indicators [Q, J]) that returns edited features [Q, P, d]; the search is then plain and exact. None:
        prototypes edit linearly, or replace blocks; the tree is one memory [J, P, d], and
        ``ManipulationIndex`` serves it.
    """

    begin: Callable[[ConfigDict, Encoder, Float[Array, "J P d"]], Any]
    objective: Callable[[ConfigDict, Encoder], Objective]
    make_edit: Callable[[ConfigDict, Encoder], EditFunction] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """A system: all that the rest of the package knows of it.

    Attributes:
      meaning: the words that describe it, in the reference of the config fields and in a model's card.
      build: (config, schema) -> the model; where ``model.freeze_backbone`` is set, the one that reads what
        the backbone gives.
      encoder_objective: (config, encoder, labels [M, N] of the training images, -1 = not labelled) -> the
        loss of stage 1, whose targets are rows of such labels. A ``UserError`` in it is found before anything
        is written.
      second_stage: what stage 2 trains; None: there is no stage 2. Without stage 2, prototypes edit.
      fields: the config fields of its own, which stand in a section that has the system's name.
      smallest_image: the smallest number of rows, and of columns, of the images that its model takes,
        whatever backbone the config names; None: that of the backbone.
      without: the config fields of other sections that say nothing of this system, as those of parts that it
        has not; a run is described in words without them.
      problems: config -> what in it makes no sense for this system, a sentence each.
    """

    meaning: str
    build: Callable[[ConfigDict, AttributeSchema], Encoder]
    encoder_objective: Callable[[ConfigDict, Encoder, Int[np.ndarray, "M N"]], Objective]
    second_stage: SecondStage | None = None
    fields: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    smallest_image: int | None = None
    without: Collection[str] = ()
    problems: Callable[[ConfigDict], Iterable[str]] = no_problem
