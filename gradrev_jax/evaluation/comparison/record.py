"""The form of comparison.json: what the numbers of a comparison are called."""

from typing import Any, NotRequired, TypedDict


class MetricRecord(TypedDict):
    """One metric of a system.

    Attributes:
      value: the mean over the runs.
      low: the lower bound of its interval; None if there is nothing to resample.
      high: the upper bound.
      seed_sd: the standard deviation between runs; None of one run.
      runs: the metric of each run.
      no_manipulation: for retrieval, the metric of the references as they are.
      majority: for accuracies, that of the most frequent value.
    """

    value: float
    low: float | None
    high: float | None
    seed_sd: float | None
    runs: NotRequired[list[float]]
    no_manipulation: NotRequired[float]
    majority: NotRequired[float]


class SystemRecord(TypedDict):
    """One system, which is one run or several of one name.

    Attributes:
      name: its name.
      prototypes_of: the name of the system whose encoder this is; see ``ComparedSystem``.
      runs: the folders of its runs.
      seeds: the seed of each.
      intervals_hold_seeds: whether its intervals say how far another training would change the numbers.
      what: its config in words.
      step: the step of each run's checkpoint.
      representation: what was compared of each run; None: its report is older than this field.
      normalize: the normalisation that each was compared by; None likewise.
      look: the weight of the look in each; None: it has none.
      edit: the edit of each; None as for ``representation``.
      strength: the strength that each was searched with.
      weights: the weights that each was searched with, by attribute; None: equal ones.
      metrics: its metrics, as ``hit_rate@10``.
      leakage: the leakage of each run, by the name of the measurement; empty if it was not measured.
      baselines: the mean hit rates of its baselines, by name and cut-off.
      cross_accuracy: the accuracy of each classifier (column) on each feature (row), the mean over runs.
    """

    name: str
    prototypes_of: str | None
    runs: list[str]
    seeds: list[int]
    intervals_hold_seeds: bool
    what: str
    step: list[int]
    representation: list[str | None]
    normalize: list[str | None]
    look: list[float | None]
    edit: list[str | None]
    strength: list[float]
    weights: list[dict[str, float] | None]
    metrics: dict[str, MetricRecord]
    leakage: dict[str, list[float | None]]
    baselines: dict[str, dict[str, float]]
    cross_accuracy: list[list[float | None]]


class DifferenceRecord(TypedDict):
    """The difference of two systems in one metric, the first minus the second.

    Attributes:
      first: the name of one system.
      second: the name of the other.
      metric: the metric, as ``hit_rate@10``.
      difference: the difference of the means; 0 if it may be a rounding error.
      low: the lower bound of its interval; None if there is nothing to resample.
      high: the upper bound.
      significant: whether 0 lies outside of the interval.
      p: its p-value; None without an interval.
      paired_by_seed: whether the runs were paired.
      intervals_hold_seeds: whether both systems have several runs.
      seed_sd: the standard deviation of the difference of two single runs; None if nothing is known of it.
      seeds_needed: an estimate of the seeds that would tell the systems apart, or ``more than 100``; None
        likewise, and if there is no difference.
      holm: whether it stands after Holm's correction for all differences.
    """

    first: str
    second: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    significant: bool
    p: float | None
    paired_by_seed: bool
    intervals_hold_seeds: bool
    seed_sd: float | None
    seeds_needed: int | str | None
    holm: NotRequired[bool]


class ComparisonRecord(TypedDict):
    """A whole comparison.

    Attributes:
      queries: the number of queries.
      references: the number of reference images that they are asked of.
      gallery: the number of images that are searched.
      attributes: the number of values of each attribute.
      ks: the cut-offs.
      confidence: the confidence of the intervals, as 0.95.
      samples: the number of bootstrap samples.
      systems: the systems.
      differences: the differences of all pairs of systems.
      fields_that_differ: the config fields that differ, by system: the value of each run.
    """

    queries: int
    references: int
    gallery: int
    attributes: dict[str, int]
    ks: list[int]
    confidence: float
    samples: int
    systems: list[SystemRecord]
    differences: list[DifferenceRecord]
    fields_that_differ: dict[str, dict[str, list[Any]]]
