import pathlib

import pytest

from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.runs.fields import table
from gradrev_jax.runs.fields.reference import reference_page
from gradrev_jax.runs.formats import FORMATS
from gradrev_jax.systems.field import Field, any_of, at_least, number, one_of, some_of
from gradrev_jax.systems.registry import SYSTEMS

ROOT = pathlib.Path(__file__).parents[3]
MODULES = [*ROOT.glob("gradrev_jax/**/*.py"), *ROOT.glob("gradrev_commands/*.py")]


@pytest.mark.parametrize(
    ("rule", "good", "bad", "text"),
    [
        (at_least(0), [0, 1.5], [-1, float("nan"), float("inf")], "at least 0"),
        (one_of(("pmap", "jit")), ["jit"], ["", "vmapped"], "one of pmap, jit"),
        (some_of(("swap", "add")), [("add",), ("add", "swap")], [(), ("drop",)], "some of swap, add"),
        (any_of(("swap", "add")), [(), ("add", "swap")], [("drop",)], "some or none of swap, add"),
        (number(), [-1.0], [float("nan")], "a number"),
    ],
)
def test_a_rule_tells_what_is_allowed(rule, good, bad, text):
    field = Field(default=good[0], meaning="a field", rule=rule)
    assert [field.problem(value) for value in good] == [None] * len(good)
    assert [field.problem(value) for value in bad] == [text] * len(bad)


@pytest.mark.parametrize(
    ("rule", "bad", "hint"),
    [
        (one_of(("pmap", "jit")), "pmapp", "; did you mean pmap?"),
        (some_of(("swap", "add")), ("swap", "addd"), "; did you mean add?"),
        (any_of(("swap", "add")), ("swop", "ad"), "; did you mean swap?; did you mean add?"),
        (any_of(("swap", "add")), (1,), ""),
    ],
)
def test_a_word_that_is_not_allowed_is_told_those_near_to_it(rule, bad, hint):
    assert Field(default=(), meaning="a field", rule=rule).problem(bad) == rule.text + hint


def test_an_optional_field_may_be_unset():
    optional = Field(default=None, kind=int, meaning="steps", rule=at_least(1))
    assert optional.problem(None) is None
    assert optional.problem(0) == "at least 1"


def test_every_default_is_allowed_and_every_optional_field_has_a_type():
    for name, field in table.FIELDS.items():
        assert field.problem(field.default) is None, name
        assert (field.default is None) == (field.kind is not None), name
        assert field.meaning[0].isupper(), name
        assert field.meaning.endswith("."), name


def test_every_field_is_read_somewhere():
    """By its whole dotted name, or as ``section.field`` of an object that holds the section."""
    code = "\n".join(path.read_text() for path in MODULES if "fields" not in path.parts)
    sections = {"train": ("train", "section"), "memory": ("memory", "section")}
    for name in table.FIELDS:
        *path, last = name.split(".")
        holders = sections.get(path[-1], (path[-1],)) if path else ("config",)
        reads = [f"{holder}.{last}" for holder in holders] + [f'"{name}"']
        whole = name.startswith("memory.weights.") and "**config.memory.weights" in code
        assert whole or any(_is_word(read, code) for read in reads), f"{name} is read nowhere"


def _is_word(read, code):
    """Whether code has these characters and no name that only begins with them."""
    return any(not (rest[:1].isalnum() or rest[:1] == "_") for rest in code.split(read)[1:])


def test_a_run_may_go_on_with_another_value_of_some_fields_only():
    run = {"reversal.weighting": "balanced", "stages": ["encoder"]}
    resumable = {name for name in table.FIELDS if table.is_resumable(name, run)}
    assert {"train.epochs", "data.root", "protocol.ks", "memory.margin"} <= resumable
    assert not {"train.batch_size", "protocol.select_on_test", "data.split_by", "seed"} & resumable
    assert not table.is_resumable("train.epochs", {**run, "reversal.weighting": "schedule"})
    assert not table.is_resumable("memory.margin", {**run, "stages": ["encoder", "memory"]})
    assert not table.is_resumable("a.field.of.another.version", run)


def test_a_stage_is_no_longer_or_shorter_where_its_steps_count_towards_the_end():
    cosine = {"reversal.weighting": "off", "train.schedule": "cosine", "stages": ["encoder"]}
    assert not table.is_resumable("train.epochs", cosine)
    assert not table.is_resumable("train.max_steps", cosine)
    assert table.is_resumable("memory.epochs", cosine), "that stage has not begun"
    assert not table.is_resumable("memory.epochs", {**cosine, "stages": ["encoder", "memory"]})
    phases = {"reversal.weighting": "off", "train.schedule": "step", "stages": ["encoder"]}
    assert table.is_resumable("train.epochs", {**phases, "fsn.localization_share": 0.0})
    assert not table.is_resumable("train.epochs", {**phases, "fsn.localization_share": 0.25})
    assert table.is_resumable("train.max_steps", {**phases, "fsn.localization_share": 0.25})


def test_runs_of_versions_without_a_variant_of_training_go_on_without_it():
    off = {f"train.{name}_weight": 0.0 for name in TERMS}
    off |= {"model.unit_features": False, "model.logit_scale": 20.0, "train.decorrelate": 0.0}
    assert off.items() <= table.EARLIER_VALUES.items()


def test_the_reference_page_is_up_to_date():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    again = "python -m gradrev_jax.runs.fields.reference > docs/configuration.md"
    assert page == reference_page(), f"write it again: {again}"
    for name in table.FIELDS:
        assert f"| `{name}` |" in page


def test_a_field_that_came_later_says_what_earlier_runs_stood_for():
    """Or a run that was trained before the field was there can no longer be opened."""
    first = (pathlib.Path(__file__).parent / "first_fields.txt").read_text().split()
    later = [name for name in table.FIELDS if name not in first]
    assert "train.loggers" in later
    assert [name for name in later if name not in table.EARLIER_VALUES] == []


def test_fields_of_one_system_or_format_are_not_missed_in_runs_of_others():
    """So that a system or a format that is added leaves all earlier runs as they are."""
    of_systems = {f"{name}.{field}" for name, system in SYSTEMS.items() for field in system.fields}
    of_formats = {f"data.{field}" for each in FORMATS.values() for field in each.fields}
    assert of_systems | of_formats <= table.EARLIER_VALUES.keys()
    assert table.EARLIER_VALUES["gamma.width"] == table.FIELDS["gamma.width"].default
    assert "train.batch_size" not in table.EARLIER_VALUES
