"""Shows the same queries as every system of a comparison answers them (Fig. 8)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import TEST
from gradrev_jax.errors import UserError
from gradrev_jax.evaluation.comparison.figures import query_grid
from gradrev_jax.evaluation.comparison.systems import ComparedSystem
from gradrev_jax.evaluation.examples import SHOWN_QUERIES, pick_queries, retrieval_example, shown_matches
from gradrev_jax.evaluation.opening import gallery_names, gallery_pictures


def shown_queries(
    systems: Sequence[ComparedSystem],
    schema: AttributeSchema,
    *,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> tuple[list[tuple[str, Figure]], str]:
    """Draws a few queries as all systems answer them; a system with several runs is shown by its first.

    Args:
      systems: the systems.
      schema: the attributes that they share.
      data: fields of ``config.data`` that say where the catalogue lies now, as ``run.evaluate`` has them.
      progress: whether a progress bar is shown.

    Returns:
      The change of each query in words and its picture; and, if there are none because the images can no
      longer be read, the reason.
    """
    runs = [system.runs[0] for system in systems]
    try:
        catalogue, pictures = gallery_pictures(runs[0].directory, data=data, progress=progress)
    except UserError as error:
        return [], str(error)
    if not np.array_equal(catalogue.part_labels(TEST), runs[0].scores.labels):
        return [], f"the catalogue of {runs[0].directory} is not the one that was evaluated any more"
    name_of = gallery_names(catalogue)
    figures = []
    for query in choose_queries(systems):
        answers = [
            (system.name, retrieval_example(run.scores, query, schema, pictures, name_of))
            for system, run in zip(systems, runs, strict=True)
        ]
        figures.append((answers[0][1].change, query_grid(answers)))
    return figures, ""


def choose_queries(systems: Sequence[ComparedSystem], *, seed: int = 0) -> list[int]:
    """Chooses the queries to show; half of them find a match in some systems and none in others.

    Args:
      systems: the systems.
      seed: the seed of the choice.
    """
    hits = np.stack([np.any(shown_matches(system.runs[0].scores), axis=1) for system in systems])
    differ = np.any(hits != hits[0], axis=0)
    changed = systems[0].runs[0].scores.changed
    picked = pick_queries(differ, changed, count=SHOWN_QUERIES // 2, seed=seed)
    agreed = pick_queries(~differ, changed, count=SHOWN_QUERIES - len(picked), seed=seed)
    return picked + agreed
