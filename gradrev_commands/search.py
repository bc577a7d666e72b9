"""Finds garments like one, but changed: gradrev-search --workdir=runs/mine --image=my.jpg --change=color=red.

The item is a photograph (--image) or one of the gallery (--item). --change=ATTRIBUTE=VALUE changes an
attribute, --change=ATTRIBUTE= removes what it has, and --say="but red, with long sleeves" says it in words.
"""

import io
import json
import math
import pathlib
import sys
from collections.abc import Iterable, Sequence

from absl import flags

from gradrev_commands import cli
from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import PARTS
from gradrev_jax.data.images.limits import MOST_MEGAPIXELS
from gradrev_jax.distributed import say
from gradrev_jax.errors import ConfigError, DataError, join_names
from gradrev_jax.files import replace_file
from gradrev_jax.runs.compilation_cache import use_cache_of_run
from gradrev_jax.runs.fields.table import default_config
from gradrev_jax.serving.changes import LARGEST_STRENGTH, Change
from gradrev_jax.serving.found import Found
from gradrev_jax.serving.items import Edited, Item
from gradrev_jax.serving.language.reader import Words
from gradrev_jax.serving.language.words import Request
from gradrev_jax.serving.photos import read_photo
from gradrev_jax.serving.retriever import Retriever
from gradrev_jax.serving.shown import (
    PICTURE,
    describe_edited,
    picture_pixels,
    results_json,
    results_picture,
    results_table,
)

NOTHING = "nothing was found; ask for less with --where"


def parse_assignment(text: str, flag: str, names: Sequence[str] = ()) -> tuple[str, str | None]:
    """Returns the attribute and the value of ``ATTRIBUTE=VALUE``; no value stands for None.

    Args:
      text: the text.
      flag: the flag that it was given with, for the message.
      names: the attributes, whose names may have an equals sign, too.

    Raises:
      ConfigError: it has no equals sign.

    Example:
      >>> parse_assignment("color=red", "change"), parse_assignment("logo=", "change")
      (('color', 'red'), ('logo', None))
      >>> parse_assignment("fit=waist=slim", "change", ["fit=waist"])
      ('fit=waist', 'slim')
    """
    if "=" not in text:
        raise ConfigError(f"--{flag}={text} has no equals sign; write --{flag}=ATTRIBUTE=VALUE")
    splits = [(text[:at].strip(), text[at + 1 :].strip()) for at, sign in enumerate(text) if sign == "="]
    attribute, value = next((split for split in splits if split[0] in names), splits[0])
    return attribute, value or None


def parse_assignments(
    flag: "flags.FlagHolder[list[str]]", names: Sequence[str] = ()
) -> list[tuple[str, str | None]]:
    """Returns the attribute and the value of each text that a flag was given, see ``parse_assignment``."""
    return [parse_assignment(text, flag.name, names) for text in flag.value]


def group_values(assignments: Iterable[tuple[str, str | None]]) -> dict[str, list[str | None]]:
    """Returns the values of each attribute, in their order.

    Args:
      assignments: attributes and values.

    Example:
      >>> group_values([("color", "red"), ("size", None), ("color", "blue")])
      {'color': ['red', 'blue'], 'size': [None]}
    """
    values: dict[str, list[str | None]] = {}
    for attribute, value in assignments:
        values.setdefault(attribute, []).append(value)
    return values


def read_words(text: str, schema: AttributeSchema) -> Request:
    """Returns what a request in words asks for, with the synonyms of the text model where it is installed.

    Args:
      text: the request.
      schema: the attributes.
    """
    words = Words(schema)
    words.load()
    return words(text)


def settled_changes(request: Request) -> list[Change]:
    """Returns the changes that words ask for; says which words were not understood, or that there is none.

    Args:
      request: what the words ask for.

    Raises:
      ConfigError: words may mean several things, of which one has to be chosen.
    """
    for question in request.questions:
        options = join_names([_flag_of(change) for change in question.options])
        raise ConfigError(f"--say: {question.words!r} may mean several things; give one of {options}")
    if request.unknown:
        say(f"not understood, and left out: {', '.join(request.unknown)}")
    if not request.changes:
        say("--say asks for no change, so garments like the item as it is are searched")
    return list(request.changes)


def _flag_of(change: Change) -> str:
    """Returns the flag that asks for a change."""
    if change.to is None:
        return f'--say="not {change.attribute}={" or ".join(change.unwanted)}"'
    return f"--change={change.attribute}={change.to}"


def check_asked(image: str | None, item: str | None, strength: float) -> None:
    """Checks that a photograph or an item is given, and that the strength is a number.

    Args:
      image: the flag of the photograph.
      item: the flag of the item.
      strength: the factor of the changes.

    Raises:
      ConfigError: neither or both are given, or it is not.
    """
    if (image is None) == (item is None):
        both = "" if image is None else ", not both"
        raise ConfigError(f"give --image=FILE, or --item=NAME for one of the gallery{both}")
    if math.isnan(strength):  # which lies within all bounds
        raise ConfigError("--strength=nan is no number; give one, as 0.5 for half of the change")


def find_item(shop: Retriever, which: str) -> Item:
    """Returns the item of a name, or of a row if no image has this name.

    Args:
      shop: the run.
      which: the name, or the row.

    Raises:
      DataError: there is neither.
    """
    return shop.item(int(which) if which.isdecimal() and which not in shop.names else which)


def picture_path(out: str | None) -> pathlib.Path | None:
    """Returns the file of the picture that is asked for; None: none is.

    Args:
      out: the flag.

    Raises:
      DataError: the name is not that of a picture.

    Example:
      >>> picture_path("grid.png"), picture_path(None)
      (PosixPath('grid.png'), None)
    """
    if out is None:
        return None
    path = pathlib.Path(out)
    if path.suffix != ".png":
        raise DataError(f"--out={path} must end in .png")
    return path


def draw(shop: Retriever, edited: Edited, found: Found, path: pathlib.Path, photo: str | None) -> None:
    """Writes a picture of what was found.

    Args:
      shop: the run.
      edited: the item with its changes.
      found: what was found.
      path: the file, see ``picture_path``.
      photo: the file of the photograph that is the item, which the run has seen; None: it is one of the
        gallery.

    Raises:
      DataError: nothing was found, or the file cannot be written.
    """
    if not len(found):
        raise DataError("nothing was found, so there is nothing to draw; ask for less with --where")
    if photo is not None:
        pixels, name = read_photo(photo, PICTURE, MOST_MEGAPIXELS), photo  # the run's own limit let it pass
    else:
        assert edited.item.row is not None, "an item that is no photograph is one of the gallery"
        pixels, name = picture_pixels(shop, edited.item.row), shop.names[edited.item.row]
    content = io.BytesIO()
    results_picture(shop, edited, found, pixels, name).savefig(content, format="png", dpi=150)
    replace_file(path, content.getvalue(), DataError)


def main() -> None:
    """Searches a run's gallery for an item with changes, and prints what was found."""
    fields = default_config()
    cli.check_fields(protocol=fields.protocol, data=fields.data)
    workdir = cli.define_folder("workdir", "Folder of the run.", required=True)
    image = flags.DEFINE_string("image", None, "File of a photograph to start from.")
    item = flags.DEFINE_string("item", None, "Name of an image of the gallery, or its row, to start from.")
    change = flags.DEFINE_multi_string("change", [], "ATTRIBUTE=VALUE; may be given several times.")
    words = flags.DEFINE_string("say", None, "The changes in words, as 'but red, with long sleeves'.")
    where = flags.DEFINE_multi_string("where", [], "ATTRIBUTE=VALUE that every result is labelled with.")
    k = flags.DEFINE_integer("k", 10, "Number of results.", lower_bound=1)
    look = flags.DEFINE_float("look", None, "Weight of how garments look; unset: the one of the run.")
    bounds = -LARGEST_STRENGTH, LARGEST_STRENGTH
    strength = flags.DEFINE_float("strength", 1.0, "Factor of the changes.", *bounds)
    engine = flags.DEFINE_string(
        "engine", None, "Filled by index.py: milvus:PATH.db or milvus:http://HOST:PORT"
    )
    step = flags.DEFINE_string(
        "step", "best", "Checkpoint: best (on the validation part), latest, or its step."
    )
    parts = flags.DEFINE_list("parts", ["test"], f"Parts that are searched, of {', '.join(PARTS)}.")
    keeps_item = flags.DEFINE_boolean("keep_item", False, "Whether the item is among its own results.")
    out = flags.DEFINE_string("out", None, "Name of a picture to write, as grid.png.")
    as_json = flags.DEFINE_boolean("json", False, "Whether to print JSON in place of a table.")
    read_protocol = cli.define_section("protocol", fields.protocol, "Section of the config, as for evaluate.")
    read_data = cli.define_section("data", fields.data, "Section of the config, as for evaluate.")

    def work() -> None:
        check_asked(image.value, item.value, strength.value)
        picture = picture_path(out.value)  # before anything that takes a while
        for flag in (change, where):
            parse_assignments(flag)
        use_cache_of_run(workdir.value)
        shop = Retriever.open(
            workdir.value,
            parts=parts.value,
            step=step.value,
            protocol=read_protocol(),
            data=read_data(),
            engine=engine.value,
        )
        names = shop.schema.names
        changes = [Change(*asked, strength.value) for asked in parse_assignments(change, names)]
        filters = group_values(parse_assignments(where, names))
        if words.value is not None:
            said = settled_changes(read_words(words.value, shop.schema))
            changes += [each._replace(strength=each.strength * strength.value) for each in said]
        start = shop.photo(image.value) if image.value is not None else find_item(shop, item.value or "")
        edited = start.changes(changes)
        exclude = [] if start.row is None or keeps_item.value else [start.row]
        found = edited.search(k.value, look=look.value, where=filters, exclude=exclude)
        if as_json.value:
            print(json.dumps(results_json(found), ensure_ascii=False, allow_nan=False))
        else:
            print(f"{describe_edited(edited)}\n\n{results_table(found) if len(found) else NOTHING}")
        if picture is not None:
            draw(shop, edited, found, picture, image.value)
            print(f"\nPicture: {picture}", file=sys.stderr if as_json.value else sys.stdout)

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
