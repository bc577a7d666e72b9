from gradrev_jax.evaluation.comparison.further_sections import (
    LEAKAGE_COLUMNS,
    baseline_section,
    leakage_section,
)


def system(name, rate, baselines=("no_manipulation",), leakage=None):
    return {
        "name": name,
        "metrics": {"hit_rate@5": {"value": rate}, "hit_rate@30": {"value": 0.99}},
        "baselines": {each: {"5": 0.25 + i / 100, "30": 0.9} for i, each in enumerate(baselines)},
        "leakage": leakage,
    }


def rows_of(lines):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_baselines_of_all_systems_stand_in_one_table():
    """At the cut-off nearest to 10; a system without a baseline has an empty cell."""
    first = system("a|b", 0.5, ("no_manipulation", "erased_given_own"))
    lines = baseline_section({"ks": [5, 30], "systems": [first, system("plain", 0.75)]})
    header, _, *rows = rows_of(lines)
    assert header == ["system", "its own", "no manipulation", "erased given own"]
    assert lines[-2].startswith("| plain | 75.00 | 25.00 |")
    assert rows[1] == ["plain", "75.00", "25.00", ""]
    assert "| a\\|b | 50.00 | 25.00 | 26.00 |" in lines
    assert any("hit_rate@5" in line for line in lines)


def test_without_further_baselines_or_leakage_there_is_no_section():
    comparison = {"ks": [5], "systems": [system("plain", 0.5)]}
    assert baseline_section(comparison) == leakage_section(comparison) == []


def test_leakage_is_the_mean_over_runs_with_its_range():
    numbers = {name: [0.25, 0.75] for name in LEAKAGE_COLUMNS}
    numbers["mean"], numbers["mlp_mean"], numbers["mlp_conditional_mean"] = [0.5], [None, 0.125], [None]
    systems = [system("plain", 0.5), system("measured", 0.5, leakage=numbers)]
    lines = leakage_section({"ks": [5], "systems": systems})
    assert "from what a system compares of each attribute, such as its feature, on images" in lines[2]
    header, _, *rows = rows_of(lines)
    assert header == ["system", *LEAKAGE_COLUMNS.values()]
    both = "50.00 (25.00 to 75.00)"
    assert rows == [["measured", both, "50.00", both, "12.50", ""]]
