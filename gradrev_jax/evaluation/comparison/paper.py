"""The numbers that the paper reports on Shopping100k, in percent as printed."""

from gradrev_jax.evaluation.comparison.record import ComparisonRecord

# The number of values of each of its 12 attributes, in alphabetical order from category to sport: 151 in all.
SHOPPING100K_SIZES = (16, 17, 19, 14, 10, 15, 2, 11, 16, 7, 9, 15)


def _hit_rates(*percentages: str) -> dict[str, str]:
    return {f"hit_rate@{k}": value for k, value in zip((10, 20, 30, 40, 50), percentages, strict=True)}


def _gains(every: str, target: str, others: str) -> dict[str, str]:
    return {"ndcg@30": every, "ndcg_target@30": target, "ndcg_others@30": others}


# Hit rates: Tables 3, 4 and 7; NDCG: Table 5; accuracy: Table 6.
PAPER: dict[str, dict[str, str]] = {
    "AMNet": {
        **_hit_rates("25.62", "36.13", "42.94", "47.71", "51.64†"),  # printed as 61.64
        **_gains("71.48", "40.10", "75.71"),
        "accuracy_macro": "78.30",
    },
    "FSN": _hit_rates("38.41", "47.44", "57.17", "61.62", "66.70"),
    "ADDE-M": {
        **_hit_rates("41.17", "52.93", "59.81", "64.10", "67.29"),
        **_gains("73.67", "43.05", "77.79"),
        "accuracy_macro": "79.30",
    },
    "DAtNet": {"hit_rate@30": "67.70"},
    "N x N classifiers": {
        **_hit_rates("41.78", "53.44", "60.36", "64.90", "68.27"),
        "accuracy_macro": "79.58",
    },
    "N classifiers": {
        **_hit_rates("43.02", "54.13", "60.76", "65.18", "68.53"),
        **_gains("74.26", "44.00", "78.32"),
        "accuracy_macro": "79.61",
    },
    "without reversal": _hit_rates("40.39", "49.87", "55.76", "61.44", "63.18"),
}


def paper_note(comparison: ComparisonRecord) -> list[str]:
    """Returns where the paper's numbers are from, if they stand in the tables."""
    if not is_shopping100k(comparison):
        return []
    return [
        "Paper: its Tables 3, 4 and 7 (hit rate), 5 (NDCG@30) and 6 (accuracy), measured as the literature "
        "does: the best epoch on the test images, and the query image among the gallery. † printed as 61.64, "
        "which its neighbours contradict.",
        "",
    ]


def is_shopping100k(comparison: ComparisonRecord) -> bool:
    """Returns whether the attributes are as many, with as many values, as those of Shopping100k."""
    return tuple(comparison["attributes"].values()) == SHOPPING100K_SIZES
