import dataclasses
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from gradrev_jax.core.representations import REPRESENTATIONS, Representation
from gradrev_jax.errors import WorkdirError
from gradrev_jax.evaluation import baselines, report_texts
from gradrev_jax.evaluation.attention_figure import AttentionExample
from gradrev_jax.evaluation.report import Examples, result_table, write_report
from gradrev_jax.evaluation.retrieval_figure import RetrievalExample
from gradrev_jax.evaluation.scores import Scores, read_scores
from gradrev_jax.evaluation.written_metrics import NO_MANIPULATION
from gradrev_jax.runs.metrics_log import read_records

RETRIEVAL = ("hit_rate", "precision", "ndcg", "ndcg_target", "ndcg_others")
HISTORY = [{"step": 2, "loss_cls": 1.0, "loss_rev": 2.0, "w_rev": 0.1}]
EXAMPLE = RetrievalExample(
    query_image=np.zeros((4, 4, 3), np.uint8),
    query_name="a.jpg",
    change="color: red -> blue",
    neighbor_images=np.zeros((1, 4, 4, 3), np.uint8),
    neighbor_names=("b.jpg",),
    neighbor_labels=("",),
    matches=np.array([True]),
)
BOXES = np.array([[0, 0, 1, 1]] * 2)
NONE = np.zeros((1, 2))
SCORES = Scores(
    reference=np.array([3]),
    changed=np.array([[True, False]]),
    indicators=np.array([[0, 1, -1]], np.int8),
    targets=np.array([[1, 0]]),
    neighbors=np.array([[2, 1]]),
    ks=np.array([1, 10]),
    by_metric=dict.fromkeys(RETRIEVAL, NONE),
    labels=np.zeros((4, 2), int),
    correct=np.ones((4, 2), int),
)


def accuracy(color, size):
    return {
        "macro": (color + size) / 2,
        "micro": (3 * color + size) / 4,
        "per_attribute": {"color": color, "size": size},
    }


@pytest.fixture
def metrics():
    """Every number of it is another, in percent too."""
    numbers = iter(np.arange(1, 100) / 137)

    def retrieval():
        return {name: {"1": float(next(numbers)), "10": float(next(numbers))} for name in RETRIEVAL}

    return {
        "gallery": 1600,
        "queries": 4361,
        "step": 12345,
        "representation": "features",
        "look": None,
        "normalize": "global",
        "edit": "add",
        "strength": 1.0,
        "weights": None,
        "attribute_accuracy": accuracy(0.91239, 0.85),
        "majority_accuracy": accuracy(0.3, 0.125),
        "cross_accuracy": {"attributes": ["color", "size"], "matrix": [[0.9, 0.2], [None, 0.8]]},
        **retrieval(),
        "baselines": {"no_manipulation": retrieval()},
        "leakage": None,
        "prototypes_without_images": [],
        "catalogue_changes": [],
    }


def write(
    directory,
    metrics,
    history=HISTORY,
    successes=(EXAMPLE,),
    failures=(EXAMPLE,),
    attention=(),
    wait_for_all=None,
):
    write_report(
        directory,
        metrics=metrics,
        scores=SCORES,
        wait_for_all=wait_for_all or (lambda: metrics),
        history=history,
        examples=Examples(successes, failures, attention),
        title="my run",
    )
    return (directory / "report.md").read_text()


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def percent(fraction):
    return f"{100 * fraction:.2f}"


def table_rows(text):
    """Cells of all lines of all tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]


def test_real_pictures_are_written(metrics, tmp_path):
    write(tmp_path / "report", metrics)
    pictures = [path.read_bytes() for path in (tmp_path / "report").glob("*.png")]
    assert len(pictures) == 5
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len({len(picture) for picture in pictures}) > 3, "successes and failures are alike here"


@pytest.mark.parametrize("missing", ["", "history", "successes", "failures", "history successes failures"])
def test_a_report_names_every_picture_there_is_and_no_other(metrics, tmp_path, blank_pictures, missing):
    text = write(tmp_path / "report", metrics, **dict.fromkeys(missing.split(), ()))
    named = re.findall(r"!\[.*\]\((.*?)\)", text)
    absent = {
        {"history": "training.png", "successes": "retrieved.png", "failures": "failures.png"}[name]
        for name in missing.split()
    }
    pictures = {
        "hit_rate.png",
        "cross_accuracy.png",
        "retrieved.png",
        "failures.png",
        "training.png",
    } - absent
    assert sorted(named) == sorted(pictures)
    files = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    assert set(files) == pictures | {"metrics.json", "queries.npz", "report.md"}
    assert all(files[name].startswith(b"\x89PNG") for name in pictures)


def test_a_report_shows_where_a_model_looks_that_tells_it(metrics, tmp_path, blank_pictures):
    shown = AttentionExample(EXAMPLE.query_image, "a.jpg", ("red", "s"), np.ones((2, 1, 1)), BOXES)
    text = write(tmp_path / "report", metrics, attention=[shown])
    assert "![Attention](attention.png)" in text
    assert (tmp_path / "report" / "attention.png").exists()


def test_a_report_says_what_was_compared_and_how_it_was_edited(metrics, tmp_path, blank_pictures):
    text = write(tmp_path / "plain", metrics)
    assert (
        "Compared are the features (representation `features`, normalisation `global`). The edit is `add`, "
        "at strength 1.\n"
    ) in text
    chosen = {
        "representation": "hybrid",
        "look": 0.4,
        "normalize": "none",
        "edit": "replace",
        "strength": 1.5,
    }
    text = write(tmp_path / "hybrid", metrics | chosen)
    assert (
        "Compared are the square roots of the class probabilities, and the backbone's embedding "
        "(representation `hybrid`, look 0.4, normalisation `none`). The edit is `replace`, at strength 1.5.\n"
    ) in text


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_what_is_compared_is_said_of_every_representation(metrics, tmp_path, blank_pictures, representation):
    text = write(tmp_path / "report", metrics | {"representation": representation})
    meaning = REPRESENTATIONS[representation].meaning
    assert f"Compared are {meaning} (representation `{representation}`, normalisation `global`)." in text


def test_the_weights_of_the_attributes_are_named(metrics, tmp_path, blank_pictures):
    assert "Weights" not in write(tmp_path / "plain", metrics)
    text = write(tmp_path / "weighted", metrics | {"weights": {"color": 1.41421, "si|ze": 0.0}})
    assert "Weights of the attributes in the distance: color 1.41, si\\|ze 0." in text


def test_the_tables_hold_the_percentages_and_the_files_the_numbers(metrics, tmp_path, blank_pictures):
    text = write(tmp_path / "report", metrics)
    rows = table_rows(text)
    assert ["%", "@1", "@10"] in rows
    for name in RETRIEVAL:
        at = next(i for i, row in enumerate(rows) if row[0] == name)
        assert rows[at][1:] == [percent(value) for value in metrics[name].values()]
        assert rows[at + 1][0].endswith("no manipulation")
        baseline = metrics["baselines"]["no_manipulation"][name]
        assert rows[at + 1][1:] == [percent(value) for value in baseline.values()]
    assert ["color", "91.24", "30.00"] in rows
    assert ["size", "85.00", "12.50"] in rows
    assert ["**macro**", "88.12", "21.25"] in rows
    assert ["**micro**", "89.68", "25.62"] in rows
    assert text.startswith("# my run\n")
    assert "4,361 queries, gallery of 1,600 images, checkpoint of step 12,345" in text
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == metrics
    read = read_scores(tmp_path / "report" / "queries.npz")
    assert read.neighbors.tolist() == [[2, 1]]
    assert read.indicators.tolist() == [[0, 1, -1]]


def test_an_attribute_without_a_labelled_test_image_has_its_row(metrics, tmp_path, blank_pictures):
    assert "no labelled test image" not in write(tmp_path / "labelled", metrics)
    for accuracy in (metrics["attribute_accuracy"], metrics["majority_accuracy"]):
        del accuracy["per_attribute"]["color"]
    text = write(tmp_path / "report", metrics)
    rows = table_rows(text)
    at = rows.index(["color", "–", "–"])
    assert rows[at + 1] == ["size", "85.00", "12.50"], "in the order of the attributes"
    assert "\n–: no labelled test image; the means are of the other attributes.\n" in text


def measured(*numbers):
    """Leakage by one kind of probe, as metrics.json has it."""
    names = ("own_accuracy", "mean", "conditional_mean")
    return dict(zip(names, numbers, strict=True)) | {
        name: [[None, 0.25], [0.5, None]] for name in ("matrix", "conditional_matrix", "accuracy")
    }


def leakage():
    return {
        "attributes": ["color", "size"],
        **measured(0.9, 0.4, 0.3),
        "mlp": measured(0.91, 0.41, None),
        "knn": measured(0.92, 0.42, 0.32) | {"conditional_mean": None},
        "control": {"matrix": [[None, 0.0], [0.0, None]], "mean": 0.0125},
        "controls": {"random_projection": measured(0.93, 0.43, 0.33)},
    }


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_the_leakage_is_said_to_be_read_from_what_is_compared(
    metrics, tmp_path, blank_pictures, representation
):
    metrics |= {"leakage": leakage(), "representation": representation}
    text = write(tmp_path / "report", metrics).split("## Leakage")[1].split("\n## ")[0]
    probed = {
        "features": "its feature",
        "posterior": "the square roots of its class probabilities",
        "hybrid": "the square roots of its class probabilities",
        "discriminant": "its feature, projected",
        "erased": "its feature after the erasure",
        "fitted": "its feature",
    }[representation]
    assert f"from what is compared of another (row: {probed})" in text
    assert ("feature" in text) == ("feature" in probed)
    embedding = "The backbone's embedding is compared, too, and not measured: it is no attribute's."
    assert (embedding in text) == (representation == "hybrid")


def test_the_leakage_of_a_representation_of_ones_own_is_read_from_its_blocks(
    metrics, tmp_path, blank_pictures, monkeypatch
):
    mine = Representation("my own blocks", *REPRESENTATIONS["features"][1:3])
    monkeypatch.setitem(REPRESENTATIONS, "mine", mine)
    text = write(tmp_path / "report", metrics | {"leakage": leakage(), "representation": "mine"})
    assert "from what is compared of another (row: its block)" in text


def test_baselines_stand_below_the_hit_rate_and_leakage_in_a_table(metrics, tmp_path, blank_pictures):
    assert "Leakage" not in write(tmp_path / "plain", metrics)
    rates = {"1": 0.75, "10": 0.96875}
    metrics["baselines"]["erased_given_own"] = dict.fromkeys(RETRIEVAL, rates)
    metrics["leakage"] = leakage()
    text = write(tmp_path / "report", metrics)
    rows = table_rows(text)
    at = next(i for i, row in enumerate(rows) if row[0] == "hit_rate")
    assert rows[at + 2] == ["&nbsp;&nbsp;erased given own", "75.00", "96.88"]
    assert sum("erased given own" in row[0] for row in rows) == 1, "below the hit rate alone"
    assert ["linear classifiers", "90.00", "40.00", "30.00"] in rows
    assert ["small MLPs", "91.00", "41.00", ""] in rows
    assert ["neighbours", "92.00", "42.00", ""] in rows
    assert ["random projection", "93.00", "43.00", "33.00"] in rows
    assert ["labels permuted", "", "", "1.25"] in rows
    assert "![Leakage](leakage.png)" in text
    assert (tmp_path / "report" / "leakage.png").exists()


def test_all_is_drawn_while_what_takes_longest_is_computed(metrics, tmp_path, blank_pictures):
    drawn = []

    def wait_for_all():
        drawn.extend(path.name for path in tmp_path.rglob("*.png"))
        return metrics | {
            "baselines": metrics["baselines"] | {"oracle": metrics["baselines"]["no_manipulation"]}
        }

    text = write(tmp_path / "report", metrics, wait_for_all=wait_for_all)
    assert len(drawn) == len(list((tmp_path / "report").glob("*.png"))) == 5
    assert "| &nbsp;&nbsp;oracle |" in text
    written = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert written["baselines"].keys() == {"no_manipulation", "oracle"}
    assert written["leakage"] is None


def test_zero_prototypes_and_changes_of_the_catalogue_are_told(metrics, tmp_path, blank_pictures):
    text = write(tmp_path / "report", metrics)
    assert "prototypes are zero" not in text
    assert "the catalogue has changed" not in text
    metrics["prototypes_without_images"] = ["color: red", "size: m"]
    metrics["catalogue_changes"] = ["1 image is added: a_b.jpg (test)"]
    text = write(tmp_path / "report", metrics)
    assert "No training image has color: red, size: m:" in text
    assert "The catalogue, beside that of the training:\n\n- 1 image is added: a_b.jpg (test)\n" in text
    metrics["prototypes_without_images"] = [f"color: {number}" for number in range(12)]
    assert "color: 8, color: 9 and 2 more: these" in write(tmp_path / "report", metrics)


def test_a_further_metric_is_in_every_table(metrics, tmp_path, blank_pictures):
    for tables in (metrics, metrics["baselines"]["no_manipulation"]):
        tables["median_rank"] = {"1": 0.03125, "10": 0.0625}
    for text in (write(tmp_path / "report", metrics), result_table(metrics)):
        assert re.search(r"median_rank\W+3\.12\W+6\.25", text)


def test_names_of_any_characters_stay_in_their_cells(metrics, tmp_path, blank_pictures):
    names = ["a|b", "x" * 300, "_new_\n<b>"]
    metrics["cross_accuracy"] = {"attributes": names, "matrix": [[0.5] * 3] * 3}
    for accuracy in (metrics["attribute_accuracy"], metrics["majority_accuracy"]):
        accuracy["per_attribute"] = dict.fromkeys(names, 0.5)
    metrics["prototypes_without_images"] = ["price: *"]
    write_report(
        tmp_path / "report",
        metrics=metrics,
        scores=SCORES,
        wait_for_all=lambda: metrics,
        history=[],
        examples=Examples([], []),
        title="run\udcff|*1*",
    )
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# run\ufffd\\|\\*1\\*\n")
    assert "| a\\|b | 50.00 | 50.00 |" in text
    assert f"| {'x' * 29}...{'x' * 28} | 50.00 | 50.00 |" in text
    assert "| \\_new\\_ \\<b> | 50.00 | 50.00 |" in text
    assert "No training image has price: \\*:" in text
    saved = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert list(saved["attribute_accuracy"]["per_attribute"]) == names, "in full"


def test_characters_that_no_font_has_are_named_once(metrics, tmp_path, capsys):
    assert "install" not in write(tmp_path / "report", metrics)
    assert capsys.readouterr().err == ""
    private = "\U000f1234"  # in the private area: no font has it
    metrics["cross_accuracy"]["attributes"][0] = private
    example = dataclasses.replace(EXAMPLE, change=f"{private}: a -> b", neighbor_names=(private,))
    text = write(tmp_path / "report", metrics, successes=[example], failures=[example])
    note = f"No installed font has the characters {private}: pictures show their code points, as "
    assert text.count(note) == 1
    assert capsys.readouterr().err == (
        f"note: {note}[U+F1234]; install a font that has them and evaluate again.\n"
    )


def test_a_new_report_takes_the_whole_place_of_the_old(metrics, tmp_path, blank_pictures):
    write(tmp_path / "report", metrics)
    (tmp_path / "report" / "notes.txt").write_text("of the old report")
    (tmp_path / ".report-a0b1c2d_.part").mkdir()  # by a process that was killed
    metrics["step"] = 2
    write(tmp_path / "report", metrics, failures=())
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    left = {path.name for path in (tmp_path / "report").iterdir()}
    assert left == {
        "metrics.json",
        "queries.npz",
        "report.md",
        "hit_rate.png",
        "cross_accuracy.png",
        "retrieved.png",
        "training.png",
    }
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["step"] == 2


def fail_at(name, error):
    save = Figure.savefig

    def savefig(figure, path, **settings):
        if path.name == name:
            raise error
        save(figure, path, **settings)

    return savefig


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(28, "No space left on device"), WorkdirError, "report cannot be written: No space left"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (RuntimeError("no font"), RuntimeError, "no font"),
    ],
)
def test_a_failure_midway_leaves_the_old_report_and_nothing_else(
    metrics, tmp_path, blank_pictures, monkeypatch, error, expected, message
):
    write(tmp_path / "report", metrics)
    before = contents(tmp_path)
    monkeypatch.setattr(Figure, "savefig", fail_at("training.png", error))
    metrics["step"] = 2
    with pytest.raises(expected, match=message):
        write(tmp_path / "report", metrics)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_first_report_that_fails_leaves_no_folder(metrics, tmp_path, blank_pictures):
    metrics["hit_rate"]["1"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "report", metrics)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(metrics, tmp_path, blank_pictures):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="file/report cannot be written"):
        write(tmp_path / "file" / "report", metrics)


def history(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    return read_records(tmp_path / "metrics.jsonl")


def test_history_is_read_as_it_was_written(tmp_path):
    assert history(tmp_path, '{"step": 1}\n{"step": 2, "loss": 0.5}\n') == [
        {"step": 1},
        {"step": 2, "loss": 0.5},
    ]
    assert history(tmp_path, "") == []
    assert read_records(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("torn", ["{", '{"step": 2, "lo'])
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    assert history(tmp_path, '{"step": 1}\n' + torn) == [{"step": 1}]
    assert history(tmp_path, torn) == []


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    with pytest.raises(WorkdirError, match=r"metrics.jsonl, line 2 is damaged: .*; remove the line"):
        history(tmp_path, '{"step": 1}\n{"step"\n{"step": 3}\n')


def test_the_terminal_gets_the_same_numbers(metrics):
    lines = result_table(metrics).splitlines()
    assert lines[0] == "4,361 queries, gallery of 1,600 images, checkpoint of step 12,345"
    assert lines[2].split() == ["%", "@1", "@10"]
    rows = lines[3:13]
    for name, result, baseline in zip(RETRIEVAL, rows[::2], rows[1::2], strict=True):
        assert result.split() == [name, *map(percent, metrics[name].values())]
        values = metrics["baselines"]["no_manipulation"][name].values()
        assert baseline.split() == ["no", "manipulation", *map(percent, values)]
    assert len({len(line) for line in lines[2:13]}) == 1, "columns stand below each other"
    assert lines[14:] == [
        "attribute accuracy: macro 88.12, micro 89.68 (majority class: macro 21.25, micro 25.62)"
    ]


def test_only_the_baselines_of_the_table_are_explained(metrics, tmp_path, blank_pictures):
    assert "Oracle: " not in write(tmp_path / "plain", metrics)
    rates = {"1": 0.75, "10": 0.96875}
    metrics["baselines"]["oracle"] = dict.fromkeys(RETRIEVAL, rates)
    text = write(tmp_path / "report", metrics)
    assert "No manipulation: the query image's own neighbours. Oracle: " in text
    assert "Posterior: " not in text


def test_every_baseline_is_explained():
    assert set(report_texts.BASELINES) == {NO_MANIPULATION, *baselines.BASELINES}


def test_leakage_that_nothing_was_measured_of_is_a_sentence(metrics, tmp_path, blank_pictures):
    nothing = measured(None, None, None)
    metrics["leakage"] = {
        "attributes": ["color", "size"],
        **nothing,
        "mlp": nothing,
        "knn": nothing,
        "control": {"matrix": [[None, None], [None, None]], "mean": None},
        "controls": {"backbone": nothing},
    }
    text = write(tmp_path / "report", metrics)
    assert "\n## Leakage\n\nNot measured: it takes 20 test images" in text
    assert "leakage.png" not in text
    assert not (tmp_path / "report" / "leakage.png").exists()
    assert "leakage: not measured: it takes 20 test images" in result_table(metrics)
