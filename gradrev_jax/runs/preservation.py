"""Which checkpoints of a stage stay: the latest ones, and the first and the last of the highest score."""

from collections.abc import Mapping, Sequence
from typing import Any

from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from gradrev_jax.runs.checkpoint_layout import read_score


class BestOfEqual(PreservationPolicy):
    """Preserves the first and the last checkpoint of the highest score; most often they are one.

    The last is the best, and the first says since when nothing was better.
    """

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Returns whether each checkpoint is preserved."""
        scores = {each.step: read_score(each.metrics) for each in checkpoints if each.metrics is not None}
        best = first_and_last_best(scores) if scores else ()
        return [each.step in best for each in checkpoints]


def first_and_last_best(scores: Mapping[int, float]) -> tuple[int, int]:
    """Returns the first and the last step of the highest score.

    Args:
      scores: the score of each step, at least one.

    Example:
      >>> first_and_last_best({2: 0.5, 4: 0.75, 6: 0.75, 8: 0.25})
      (4, 6)
    """
    highest = max(scores.values())
    steps = [step for step, score in scores.items() if score == highest]
    return min(steps), max(steps)


def preservation_policy(latest: int) -> AnyPreservationPolicy:
    """Creates the policy that keeps the latest checkpoints and the best.

    Args:
      latest: the number of the latest ones.
    """
    return AnyPreservationPolicy([LatestN(latest), BestOfEqual()])
