"""Which checkpoints of a stage stay: the latest ones, and the first of the highest score."""

from collections.abc import Sequence
from typing import Any

from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from gradrev_jax.runs.damaged_checkpoints import read_score


class FirstBest(PreservationPolicy):
    """Preserves the checkpoint of the highest score; of several, the first."""

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Returns whether each checkpoint is preserved."""
        scores = {each.step: read_score(each.metrics) for each in checkpoints if each.metrics is not None}
        best = first_best(scores) if scores else None
        return [each.step == best for each in checkpoints]


def first_best(scores: dict[int, float]) -> int:
    """Returns the first step of the highest score.

    Args:
      scores: the score of each step, at least one.

    Example:
      >>> first_best({2: 0.5, 4: 0.75, 6: 0.75})
      4
    """
    return max(scores, key=lambda step: (scores[step], -step))


def preservation_policy(latest: int) -> AnyPreservationPolicy:
    """Creates the policy that keeps the latest checkpoints and the best.

    Args:
      latest: the number of the latest ones.
    """
    return AnyPreservationPolicy([LatestN(latest), FirstBest()])
