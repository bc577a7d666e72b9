"""The reference page of all config fields.

Make it anew with: python -m gradrev_jax.runs.fields.reference > docs/configuration.md
"""

from collections.abc import Iterator, Mapping

from gradrev_jax.runs.fields.table import SECTIONS
from gradrev_jax.systems.field import Field

TITLES = {
    "": "The run",
    "data": "Data",
    "model": "Model",
    "reversal": "Reversal",
    "train": "Training, stage 1",
    "memory": "Training, stage 2",
    "memory.weights": "Weights of the loss of stage 2",
    "protocol": "Protocol of the evaluation",
}

START = """# Configuration

All fields of a config, with the values of a new run. A config file of `configs/` starts from these and
overrides some; the command line overrides both, as `--config.train.epochs=10`. Where the paper decides a
default, its section is given. A run is continued with the values it was started with, except for fields
marked *resumable*; `gradrev-evaluate` takes other values of *movable* fields, as `--data.root=FOLDER`, and
of the protocol; runs are compared only if they agree in the fields marked *same test*.

This page is made from `gradrev_jax/runs/fields/`, where all that is known of a field stands.
"""


def reference_page() -> str:
    """Returns the page, as Markdown: one table per section."""
    return "\n".join([START, *(_table(section, fields) for section, fields in SECTIONS.items())])


def _table(section: str, fields: Mapping[str, Field]) -> str:
    rows = (
        f"| `{section + '.' if section else ''}{name}` | {_code(field.default)} | {_meaning(field)} |"
        for name, field in fields.items()
    )
    return "\n".join(
        [f"## {_title(section)}\n", "| field | default | meaning |", "| --- | --- | --- |", *rows, ""]
    )


def _title(section: str) -> str:
    return TITLES.get(section, f"The system `{section}`")


def _code(default: object) -> str:
    if default is None:
        return "unset"
    text = repr(default).replace("|", r"\|")
    return f"`{text}`"


def _meaning(field: Field) -> str:
    """Describes a field, but for its default, in one cell of a table."""
    return " ".join(sentence.replace("|", r"\|") for sentence in _sentences(field))


def _sentences(field: Field) -> Iterator[str]:
    yield field.meaning
    if field.rule is not None:
        yield f"Allowed: {field.rule.text}."
    if field.paper:
        yield f"Paper: {field.paper}."
    marks = {"resumable": field.resumable, "movable": field.movable, "same test": field.same_test}
    if any(marks.values()):
        yield f"*{', '.join(mark for mark, is_set in marks.items() if is_set)}*"


if __name__ == "__main__":
    print(reference_page(), end="")
