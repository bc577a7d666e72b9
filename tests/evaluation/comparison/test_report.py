import json
import re

import pytest
from matplotlib.figure import Figure

from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation.comparison.numbers import compare_systems
from gradrev_jax.evaluation.comparison.paper import SHOPPING100K_SIZES
from gradrev_jax.evaluation.comparison.report import (
    check_replaceable,
    comparison_table,
    write_comparison,
)
from gradrev_jax.evaluation.comparison.systems import read_systems
from gradrev_jax.evaluation.short_text import text_width

DIFFERENCES = ("hit_rate@10", "hit_rate@30", "ndcg@30", "ndcg_target@30", "accuracy_macro")


@pytest.fixture
def comparison(make_run):
    """Two runs of one system, and another with and without its memory."""
    stages = ("encoder", "memory")
    ours = [f"ours|x={make_run(name, seed, accuracy=1.0)}" for seed, name in enumerate("ab")]
    make_run("tuned", 2, stages=stages, stage="encoder")
    tuned = make_run("tuned", 3, stages=stages, accuracy=0.1)
    return compare_systems(*read_systems([*ours, str(tuned)]))


def write(directory, comparison, queries=(), no_queries="the images are gone"):
    write_comparison(directory, comparison, queries, no_queries=no_queries)
    return (directory / "comparison.md").read_text()


def rows(text):
    """Cells of all lines of all tables, by their first."""
    lines = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines]


def percent(value):
    return f"{100 * value:.2f}"


def test_everything_is_written_and_every_picture_named(comparison, tmp_path):
    text = write(tmp_path / "out", comparison, [("color: red -> blue", Figure()), ("+ size: m", Figure())])
    files = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"hit_rate.png", "cross_accuracy.png", "query_1.png", "query_2.png"}
    assert files == pictures | {"comparison.md", "comparison.json"}
    assert set(re.findall(r"!\[.*?\]\((.*?)\)", text)) == pictures
    assert "![+ size: m](query_2.png)" in text
    assert "Left out" not in text
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == comparison


def test_without_images_the_queries_are_left_out_with_the_reason(comparison, tmp_path, blank_pictures):
    text = write(tmp_path / "out", comparison)
    assert "Left out: the images are gone" in text
    assert not list((tmp_path / "out").glob("query*"))


def test_the_tables_hold_numbers_intervals_spread_and_baseline(comparison, tmp_path, blank_pictures):
    table = rows(write(tmp_path / "out", comparison))
    names = ["hit_rate@10", "hit_rate@30"]
    at = table.index(["system", *names])
    ours = comparison["systems"][0]
    metrics = [ours["metrics"][name] for name in names]
    assert table[at + 2] == [
        "**ours\\|x**",
        *(f"{percent(m['value'])} [{percent(m['low'])}, {percent(m['high'])}]" for m in metrics),
    ]
    assert table[at + 3] == [
        "&nbsp;&nbsp;lowest and highest of 2 runs",
        *(f"{percent(min(m['runs']))} to {percent(max(m['runs']))}" for m in metrics),
    ]
    assert table[at + 4] == [
        "&nbsp;&nbsp;standard deviation of 2 seeds",
        *(percent(abs(m["runs"][0] - m["runs"][1]) / 2**0.5) for m in metrics),
    ]
    assert table[at + 5] == ["&nbsp;&nbsp;no manipulation", "12.50", "12.50"]
    assert [row[0] for row in table[at + 6 : at + 10]] == [
        "**tuned**",
        "&nbsp;&nbsp;no manipulation",
        "**tuned, prototypes alone**",
        "&nbsp;&nbsp;no manipulation",
    ]
    assert ["system", "ndcg@30", "ndcg_target@30", "ndcg_others@30"] in table
    assert ["system", "precision@30"] in table
    at = table.index(["system", "accuracy_macro", "accuracy_micro"])
    assert table[at + 2][1].startswith(percent(ours["metrics"]["accuracy_macro"]["value"]))
    assert table[at + 5] == ["&nbsp;&nbsp;majority class", "25.00", "20.00"]
    assert not [row for row in table if row[0].startswith("*paper")]


def test_differences_have_a_star_where_zero_lies_outside(comparison, tmp_path, blank_pictures):
    text = write(tmp_path / "out", comparison)
    (row,) = [row for row in rows(text) if row[0] == "ours\\|x − tuned"]
    found = [
        each for each in comparison["differences"] if (each["first"], each["second"]) == ("ours|x", "tuned")
    ]
    for cell, each in zip(row[1:], found, strict=True):
        value, low, high = (
            f"{100 * each[name]:+.2f}" if each[name] else "0.00" for name in ("difference", "low", "high")
        )
        star = (" **" if each["holm"] else " *") if each["low"] > 0 or each["high"] < 0 else ""
        assert cell == f"{value} [{low}, {high}]{star}"
    assert row[-1].endswith(" **")
    assert not all(cell.endswith("*") for cell in row[1:])
    assert "correction for the 10 comparisons of this table. Of as many without any difference, 0.5 " in text


def test_a_star_alone_is_one_that_the_correction_takes_away(comparison, tmp_path, blank_pictures):
    for each in comparison["differences"]:
        each |= {"low": 0.01, "high": 0.02, "significant": True, "holm": each["metric"] == "ndcg@30"}
    for row in rows(write(tmp_path / "out", comparison)):
        if " − " in row[0]:
            assert [len(cell) - len(cell.rstrip("*")) for cell in row[1:]] == [1, 1, 2, 1, 1]


def test_so_many_systems_that_no_p_value_passes_are_said(comparison, tmp_path, blank_pictures):
    assert "compare fewer systems" not in write(tmp_path / "out", comparison)
    assert "cannot give two stars: compare fewer" in write(tmp_path / "out", comparison | {"samples": 100})


@pytest.fixture
def seeded(make_run):
    """Builds a comparison of systems with the seeds told, each run with a report of its own."""

    def make(**seeds):
        given = [
            f"{name}={make_run(f'{name}{at}', 7 * place + at, fields={'seed': seed}, gallery=40)}"
            for place, (name, each) in enumerate(seeds.items())
            for at, seed in enumerate(each)
        ]
        return compare_systems(*read_systems(given))

    return make


def test_the_report_says_whose_seeds_an_interval_holds(seeded, tmp_path, blank_pictures):
    both = seeded(x=(0,), y=(1,))
    for text in (write(tmp_path / "out", both), comparison_table(both).replace("\n", " ")):
        assert "every system has one run, and the variance of the seeds is not in them." in text
    assert "Bands: 95 % intervals over reference images only." in write(tmp_path / "out", both)
    assert "The seeds' variance is not in these intervals" in write(tmp_path / "out", both)
    assert "seeds needed" not in write(tmp_path / "out", both)


def test_the_report_says_how_many_seeds_there_are_and_would_be_needed(seeded, tmp_path, blank_pictures):
    comparison = seeded(x=(0, 1, 2), y=(2, 1, 0), z=(3, 4), w=(0,))
    text = write(tmp_path / "out", comparison)
    said = "they say of x (3 seeds: 0, 1, 2), y (3 seeds: 2, 1, 0), z (2 seeds: 3, 4); the numbers are means"
    assert said in text
    assert said in comparison_table(comparison).replace("\n", " ")
    assert "The variance of the seeds is not in the intervals of w: one run tells nothing of it." in text
    assert "Bands: 95 % intervals over reference images, and over seeds where a system has several." in text
    assert "pairs without these lines do not hold it for both systems." in text
    table = rows(text)
    pairs = [row[0] for row in table[table.index(["pair", *DIFFERENCES]) + 2 :]][:12]
    lines = ["&nbsp;&nbsp;standard deviation of a seed", "&nbsp;&nbsp;seeds needed"]
    paired = [f"{lines[0]}, paired", lines[1]]
    assert pairs == ["x − y", *paired, "x − z", *lines, "x − w", "y − z", *lines, "y − w", "z − w"]
    row = table[table.index(["pair", *DIFFERENCES]) + 4]
    needed = [each["seeds_needed"] for each in comparison["differences"][:5]]
    assert row[1:] == ["–" if seeds is None else str(seeds) for seeds in needed]


def test_equal_systems_have_no_difference_to_find(make_run, tmp_path, blank_pictures):
    given = [
        f"{name}={make_run(f'{name}{seed}', seed, fields={'seed': seed}, gallery=40)}"
        for name, seeds in (("x", (0, 1, 2)), ("y", (2, 0, 1)))
        for seed in seeds
    ]
    comparison = compare_systems(*read_systems(given))
    text = write(tmp_path / "out", comparison)
    table = rows(text)
    at = table.index(["pair", *DIFFERENCES])
    assert table[at + 2] == ["x − y", *["0.00 [0.00, 0.00]"] * 5]
    assert table[at + 4] == ["&nbsp;&nbsp;seeds needed", *["–"] * 5]
    assert "–: no difference was seen" in text
    assert "-0.00" not in text + comparison_table(comparison)


def test_what_rounds_to_0_has_no_sign(comparison, tmp_path, blank_pictures):
    for each in comparison["differences"]:
        each |= {"difference": -4e-5, "low": -6e-5, "high": -1e-6, "significant": True, "holm": False}
    (row,) = [row for row in rows(write(tmp_path / "out", comparison)) if row[0] == "ours\\|x − tuned"]
    assert set(row[1:]) == {"0.00 [-0.01, 0.00] *"}


def test_all_systems_with_seeds_are_said_without_exceptions(seeded, tmp_path, blank_pictures):
    text = write(tmp_path / "out", seeded(x=(0, 1), y=(0, 1)))
    assert "Bands: 95 % intervals over seeds and reference images." in text
    assert "not in" not in text
    assert "pairs without these lines" not in text


def test_a_single_system_has_no_differences(make_run, tmp_path, blank_pictures):
    comparison = compare_systems(*read_systems([str(make_run("run"))]))
    assert "There is only one system." in write(tmp_path / "out", comparison)
    assert "differences" not in comparison_table(comparison)
    assert "Config fields" not in write(tmp_path / "out", comparison)


def test_the_papers_numbers_stand_beside_ours_on_its_data_set_alone(comparison, tmp_path, blank_pictures):
    comparison["attributes"] = {f"a{n}": size for n, size in enumerate(SHOPPING100K_SIZES)}
    for system in comparison["systems"]:
        system["cross_accuracy"] = [[0.5] * 12] * 12
    text = write(tmp_path / "out", comparison)
    table = rows(text)
    assert ["*paper: N classifiers*", "43.02", "60.76"] in table
    assert ["*paper: N classifiers*", "74.26", "44.00", "78.32"] in table
    assert ["*paper: N x N classifiers*", "79.58", ""] in table
    assert [row[0] for row in table].count("*paper: FSN*") == 1, "it has hit rates alone"
    assert "† printed as 61.64" in text


def test_one_reference_image_leaves_brackets_out(comparison, tmp_path, blank_pictures):
    for system in comparison["systems"]:
        for metric in system["metrics"].values():
            metric["low"] = metric["high"] = None
    for each in comparison["differences"]:
        each |= {"low": None, "high": None, "significant": False, "holm": False}
    table = rows(write(tmp_path / "out", comparison))
    value = comparison["systems"][0]["metrics"]["accuracy_macro"]["value"]
    (row,) = [row for row in table if row[0] == "**ours\\|x**" and row[1] == percent(value)]
    assert "[" not in "".join(row)


def test_the_fields_that_differ_are_shown(comparison, tmp_path, blank_pictures):
    comparison["fields_that_differ"] = {"model.width": {"ours|x": [1.0, 1.0], "tuned": [None]}}
    assert ["`model.width`", "1.0", "–"] in rows(write(tmp_path / "out", comparison))


def test_prototypes_alone_have_a_column_where_they_were_evaluated_in_another_way(
    comparison, tmp_path, blank_pictures
):
    alone = "tuned, prototypes alone"
    width = {"ours|x": [1.0, 1.0], "tuned": [0.5], alone: [0.5]}
    comparison["fields_that_differ"] = {
        "memory.epochs": {"ours|x": [None, None], "tuned": [2], alone: [None]},
        "model.width": width,
        "protocol.strength": {"ours|x": ["1", "2"], "tuned": ["1"], alone: ["1"]},
    }
    assert ["field", "ours\\|x", "tuned"] in rows(write(tmp_path / "out", comparison))
    comparison["fields_that_differ"]["protocol.strength"][alone] = ["2"]
    table = rows(write(tmp_path / "out", comparison))
    assert table[table.index(["field", "ours\\|x", "tuned", alone]) + 2 :] == [
        ["`memory.epochs`", "–", "2", "–"],
        ["`model.width`", "1.0", "0.5", "0.5"],
        ["`protocol.strength`", "1, 2", "1", "2"],
    ]


def test_the_systems_say_what_they_were_compared_by(comparison, tmp_path, blank_pictures):
    first, second, third = comparison["systems"]
    second |= {"representation": ["hybrid_x"], "normalize": ["none"], "look": [0.3], "edit": ["replace"]}
    for name in ("representation", "normalize", "look", "edit"):
        third[name] = [None]  # a report of before they were written
    table = rows(write(tmp_path / "out", comparison))
    assert table[0][-1] == "compared by"
    assert [row[-1] for row in table[2:5]] == [
        "features (lengths: attribute), `add` at strength 1",
        "hybrid_x (lengths: none, look 0.3), `replace` at strength 1",
        "strength 1",
    ]
    first |= {"normalize": ["global", "attribute"], "strength": [1.25, 2.0]}
    table = rows(write(tmp_path / "out", comparison))
    assert table[2][-1] == (
        "features (lengths: global), `add` at strength 1.25; "
        "features (lengths: attribute), `add` at strength 2"
    )


def test_weights_are_shown_where_a_run_has_some(comparison, tmp_path, blank_pictures):
    assert "| weights" not in write(tmp_path / "without", comparison)
    first, *others = comparison["systems"]
    first["weights"] = [{"color": 1.4, "size": 0.2}] * len(first["runs"])
    for other in others:
        assert other["weights"] == [None] * len(other["runs"]), "reports of before there were weights"
    text = write(tmp_path / "with", comparison)
    assert "| color 1.4, size 0.2 |" in text
    assert text.count("| none |") == len(others)


def test_the_terminal_gets_a_line_a_system_and_the_differences(comparison):
    lines = comparison_table(comparison).splitlines()
    assert re.fullmatch(r"[\d,]+ queries of \d+ reference images, gallery of 24", lines[0])
    header = lines[2].split()
    for line, system in zip(lines[3:6], comparison["systems"], strict=True):
        assert line.startswith(system["name"])
        values = line[len(system["name"]) :].split()
        assert values == [percent(system["metrics"][name]["value"]) for name in header[1:]]
    assert len({len(line) for line in lines[2:6]}) == 1, "columns stand below each other"
    end = lines.index("", 8)
    starred = [line for line in lines[8:end] if line.endswith("*")]
    assert len(lines[8:end]) == len(comparison["differences"]) == 10
    assert lines[end + 1].startswith("Intervals: How far another training would")
    assert len(starred) == sum(each["significant"] for each in comparison["differences"])


def test_long_and_wide_names_leave_the_columns_below_each_other(comparison):
    renamed = json.loads(json.dumps(comparison).replace('"ours|x', f'"{"o" * 300}').replace("tuned", "红色"))
    lines = comparison_table(renamed).splitlines()
    assert len({text_width(line) for line in lines[2:6]}) == 1
    assert max(map(text_width, lines)) < 200


def test_names_of_any_characters_are_read_as_they_are(comparison, tmp_path, capsys):
    private = "\U000f1234"  # in the private area: no font has it
    renamed = json.loads(json.dumps(comparison).replace("ours|x", f"_a_*|{private}"))
    text = write(tmp_path / "out", renamed, [("a]b", Figure())], "")
    assert "![a\\]b](query_1.png)" in text
    assert [row[0] for row in rows(text)].count(f"**\\_a\\_\\*\\|{private}**") == 4
    assert text.count("No installed font has") == 1
    assert capsys.readouterr().err.endswith("install a font that has them and compare again.\n")


def test_only_an_earlier_comparison_is_replaced(comparison, tmp_path, blank_pictures):
    out = tmp_path / "out"
    out.mkdir()
    write(out, comparison)
    (out / "query_9.png").write_text("of the earlier comparison")
    write(out, comparison)
    assert not (out / "query_9.png").exists()
    with pytest.raises(WorkdirError, match="tmp.* holds other files, which would be lost; give a folder"):
        write(tmp_path, comparison)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="file is a file; give a folder"):
        check_replaceable(tmp_path / "file")
    assert (tmp_path / "a" / "config.json").exists()


def test_a_failure_midway_leaves_the_old_comparison(comparison, tmp_path, monkeypatch, blank_pictures):
    out = tmp_path / "out"
    before = write(out, comparison)

    def fail(figure, path, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(WorkdirError, match="out cannot be written: No space left"):
        write(out, comparison, no_queries="another reason")
    assert (out / "comparison.md").read_text() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_runs_of_one_name_that_are_not_its_seeds_are_told(comparison, tmp_path, blank_pictures):
    comparison["fields_that_differ"] = {"model.heads": {"ours|x": ["a", "a"], "tuned": ["b"]}}
    for system in comparison["systems"]:
        system["seeds"] = list(range(len(system["runs"])))
    assert "is not that of seeds" not in write(tmp_path / "without", comparison)
    comparison["fields_that_differ"] = {"seed": {"ours|x": [0, 1]}, "model.heads": {"ours|x": ["a", "b"]}}
    text = write(tmp_path / "with", comparison)
    assert "**The runs of ours\\|x differ in model.heads: their spread is not that of seeds.**" in text


def test_prototypes_alone_that_were_evaluated_in_several_ways_are_told(make_run, tmp_path, blank_pictures):
    two = {"stages": ("encoder", "memory")}
    for seed, strength in enumerate(("1", "2")):
        fields = {"seed": seed}
        make_run(f"t{seed}", seed, **two, fields=fields)
        make_run(f"t{seed}", seed, **two, fields=fields, stage="encoder", protocol={"strength": strength})
    given = [f"t={tmp_path / name}" for name in ("t0", "t1")]
    text = write(tmp_path / "out", compare_systems(*read_systems(given)))
    assert (
        "**The runs of t, prototypes alone differ in protocol.strength: their spread is not that of seeds.**"
    ) in text
    assert "The runs of t differ" not in text
