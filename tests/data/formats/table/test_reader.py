import dataclasses
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from gradrev_jax.data.catalogue import Sampling, Transform
from gradrev_jax.data.formats.table import reader
from gradrev_jax.data.formats.table.columns import AttributeRules
from gradrev_jax.data.formats.table.labels import CellRules
from gradrev_jax.data.formats.table.reader import TableLayout, read_table
from gradrev_jax.data.images.limits import ImageLimits
from gradrev_jax.errors import DataError

GOOD = [
    "image,split,color,size",
    "images/a.jpg,train,red,s",
    "images/b.jpg,train,blue,",
    "images/c.jpg,test, red ,m",
    "images/d.jpg,Test,,s",
]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.new("RGB", (2, 2)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def write(root, lines, encoding="utf-8"):
    (root / "attributes.csv").write_bytes("\n".join(lines).encode(encoding))


def read(root, lines=None, say=lambda note: None, **options):
    """Writes a table and reads it; each option is a field of one of the option objects."""
    write(root, lines or GOOD)
    objects = [
        kind(
            **{
                field.name: options.pop(field.name)
                for field in dataclasses.fields(kind)
                if field.name in options
            }
        )
        for kind in (TableLayout, AttributeRules, Sampling)
    ]
    assert not options
    return read_table(root, *objects, say=say)


def fails(root, lines=None, **options):
    """Returns the message of the error; every argument that it quotes is among its arguments."""
    with pytest.raises(DataError) as error:
        read(root, lines, **options)
    message = str(error.value)
    assert set(error.value.arguments) == set(re.findall(r"`(\w+)(?:=[^`]*)?`", message))
    return message


def test_a_clean_table_is_read_without_a_note(root):
    notes = []
    catalogue = read(root, say=notes.append)
    assert notes == []
    assert catalogue.schema.names == ("color", "size")
    assert catalogue.schema.values == (("blue", "red"), ("m", "s"))
    assert catalogue.labels.tolist() == [[1, 1], [0, -1], [1, 0], [-1, 1]]
    assert catalogue.parts["train"].tolist() == [0, 1]
    assert catalogue.parts["test"].tolist() == [2, 3]
    assert catalogue.images.name(2) == "images/c.jpg"


def test_a_byte_order_mark_quotes_blank_lines_and_windows_line_ends_are_read(root):
    lines = [GOOD[0], '"images/a.jpg",train,"red, bright",s', "", *GOOD[2:]]
    (root / "attributes.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode("utf-8-sig"))
    catalogue = read_table(root)
    assert catalogue.schema.values[0] == ("blue", "red", "red, bright")


def test_validation_part_under_its_usual_names(root):
    for name in ("validation", "val", "VALID"):
        catalogue = read(root, [*GOOD[:2], f"images/b.jpg,{name},blue,", *GOOD[3:]])
        assert catalogue.parts["validation"].tolist() == [1]


def test_seeded_split_without_a_column(root):
    lines = ["image,color", "images/a.jpg,r", "images/b.jpg,b", "images/c.jpg,r", "images/d.jpg,b"]
    options = {"split_column": None, "test_fraction": 0.5, "seed": 0}
    first = read(root, lines, **options)
    assert len(first.parts["test"]) == 2
    np.testing.assert_array_equal(first.parts["test"], read(root, lines, **options).parts["test"])
    # A row that goes takes no other from its part.
    names = {first.images.name(row) for row in first.parts["test"].tolist()}
    fewer = read(root, [lines[0], *lines[2:]], **options)
    assert {fewer.images.name(row) for row in fewer.parts["test"].tolist()} == names - {"images/a.jpg"}
    by_order = read(root, lines, split_by="order", **options)
    assert len(by_order.parts["test"]) == 2


def test_template_columns_are_no_attributes(root):
    lines = ["id,split,color", "a,train,r", "b,train,b", "c,test,r", "d,test,b"]
    catalogue = read(root, lines, image_template="images/{id}.jpg")
    assert catalogue.schema.names == ("color",)
    assert catalogue.images.name(0) == "images/a.jpg"


def test_chosen_attributes_in_their_order(root):
    assert read(root, attributes=("size", "color")).schema.names == ("size", "color")
    assert read(root, attributes=("color",)).labels.tolist() == [[1], [0], [1], [-1]]


def test_rare_values_become_not_labelled(root):
    lines = [
        GOOD[0].replace("size", "size,kind"),
        *(f"{line},{k}" for line, k in zip(GOOD[1:], "xxyy", strict=True)),
    ]
    lines[1] = "images/a.jpg,train,green,s,x"
    lines[2] = "images/b.jpg,train,red,m,x"
    lines[4] = "images/d.jpg,test,blue,s,y"
    catalogue = read(root, lines, attributes=("kind", "size"), min_count=2)
    assert catalogue.schema.values == (("x", "y"), ("m", "s"))
    message = fails(root, lines, min_count=2)
    assert "column 'color' has only the value 'red' with `min_count` = 2; lower it" in message


def test_a_missing_folder_or_table_is_named(root, tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder; set `root`"):
        read_table(tmp_path / "nowhere")
    (root / "labels.csv").write_text("x")
    with pytest.raises(DataError, match=r"attributes.csv does not exist \(labels.csv there\); set `table`"):
        read_table(root)


def test_empty_tables_are_refused(root):
    (root / "attributes.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_table(root)
    assert "has a header but no rows" in fails(root, GOOD[:1])


def test_missing_columns_suggest_the_nearest(root):
    assert "no column 'Image'; did you mean 'image'? Set `image_column`." in fails(root, image_column="Image")
    assert "no column 'part'; it has" in fails(root, split_column="part")
    assert "did you mean 'color'? Set `attributes`." in fails(root, attributes=("colour",))
    assert "no column 'idd'" in fails(root, image_template="images/{idd}.jpg")
    assert "Set `image_template`" in fails(root, image_template="images/{idd}.jpg")


def test_repeated_columns_and_uneven_rows_are_named(root):
    assert "'color' more than once" in fails(root, ["image,split,color,color", *GOOD[1:]])
    message = fails(root, [*GOOD[:2], "images/b.jpg,train", *GOOD[3:], "images/e.jpg,test,red,s,x"])
    assert "the header has 4 fields, but\n  line 3: 2 fields: 'images/b.jpg,train'\n  line 6: 5 f" in message


def test_blank_duplicate_and_escaping_images_are_all_named(root):
    message = fails(root, [*GOOD[:2], ",train,blue,", *GOOD[3:], " ,test,red,s"])
    assert "rows without an image:\n  line 3: image is blank\n  line 6: image is blank" in message
    message = fails(
        root, [*GOOD, "images/a.jpg,test,red,s", "images/../images/b.jpg,test,red,s", "/etc/x,test,red,s"]
    )
    assert "lines 2, 6: images/a.jpg stands more than once" in message
    assert "line 7: images/../images/b.jpg leads out of" in message
    assert "line 8: /etc/x leads out of" in message


def test_missing_images_are_all_named(root):
    (root / "images" / "b.jpg").unlink()
    (root / "images" / "d.jpg").unlink()
    message = fails(root)
    assert "2 of 4 images are missing:\n  line 3: images/b.jpg\n  line 5: images/d.jpg" in message


def test_a_missing_or_empty_image_folder_is_one_line(root):
    for path in (root / "images").iterdir():
        path.unlink()
    message = fails(root)
    assert "none of its 4 images is there" in message
    assert "images holds no such file. Set `root`" in message
    (root / "images").rmdir()
    assert "images does not exist. Set `root`" in fails(root)


def test_unknown_and_empty_parts_are_named(root):
    message = fails(root, [*GOOD[:3], "images/c.jpg,tset,red,m", "images/d.jpg,,,s"])
    assert "column 'split' must say train, validation, test, but\n  line 4: 'tset'\n  line 5: ''" in message
    assert "no row is in the test part" in fails(root, GOOD[:3])
    assert "no row is in the train part" in fails(root, [GOOD[0], *GOOD[3:]])


def test_attributes_with_fewer_than_two_values_are_refused(root):
    unlabelled = [GOOD[0], *(line.rsplit(",", 1)[0] + "," for line in GOOD[1:])]
    assert "column 'size' has no labelled value: there is nothing to learn" in fails(root, unlabelled)
    single = [GOOD[0], *(line.rsplit(",", 1)[0] + ",s" for line in GOOD[1:])]
    assert "column 'size' has only the value 's': there is" in fails(root, single)
    assert "no column is left" in fails(
        root, ["image,split", *(",".join(row.split(",")[:2]) for row in GOOD[1:])]
    )


def test_notes_name_the_column_with_counts(root):
    notes = []
    lines = [
        ",image,split,color,size",
        "0,images/a.jpg,train,Red,NA",
        "1,images/b.jpg,train,red|blue,s",
        "2,images/c.jpg,test,red,m",
        "3,images/d.jpg,test,red,n/a",
    ]
    catalogue = read(root, [line.replace(",", ";") for line in lines], say=notes.append)
    assert catalogue.schema.names == ("color", "size")
    assert catalogue.schema.values == (("red", "red|blue"), ("m", "s"))
    assert catalogue.labels.tolist() == [[0, -1], [1, 1], [0, 0], [0, -1]]
    assert [note.text.removeprefix(f"{root / 'attributes.csv'}: ") for note in notes] == [
        "its columns are separated by semicolons; `delimiter` sets another",
        "column 1 has no name and holds row numbers; it is no attribute",
        "column 'color': 1 cell has another spelling: 'Red' (1) as 'red'; "
        "`merge_spellings=False` keeps spellings apart",
        "column 'color': 1 cell seems to hold several values: 'red|blue' (1); each combination and order "
        "is its own value; `value_separator='|'` makes all orders one value",
        "column 'size': 2 cells are not labelled: 'NA' (1), 'n/a' (1); `missing_words` has such words",
    ]


def test_options_decide_how_cells_are_read(root):
    lines = [
        *(GOOD[0], "images/a.jpg,train,red/blue,none", "images/b.jpg,train,Blue/red,s"),
        *("images/c.jpg,test,green,none", "images/d.jpg,test,nan,s"),
    ]
    rules = CellRules(("nan",), merge_spellings=False, value_separator="/")
    values = read(root, lines, cells=rules).schema.values
    assert values == (("Blue/red", "blue/red", "green"), ("none", "s"))
    assert read(root, lines, verbatim=("size",)).schema.values[1] == ("none", "s")
    assert "('none': not labelled by `missing_words`" in fails(root, lines)


def test_a_split_column_that_is_not_used_is_no_attribute(root):
    notes = []
    catalogue = read(root, split_column=None, test_fraction=0.5, say=notes.append)
    assert catalogue.schema.names == ("color", "size")
    assert "column 'split' says parts ('Test', 'test', 'train') and is no attribute" in notes[0].text


def test_a_limit_draws_rows_with_the_seed_and_needs_their_images_alone(root):
    lines = [GOOD[0], *(f"images/{name}.jpg,train,{name},{name}" for name in "abcd")]

    def drawn(seed, limit=3):
        parts = {"split_column": None, "test_fraction": 0.4, "split_by": "order"}
        images = read(root, lines, limit=limit, seed=seed, **parts).images
        return [images.name(row)[7] for row in range(len(images))]

    found = [drawn(seed) for seed in range(6)]
    assert all(names == sorted(names) and len(names) == 3 for names in found)
    assert len(set(map(tuple, found))) > 1
    assert drawn(0, limit=9) == [*"abcd"]
    message = fails(root, [*GOOD[:2], *GOOD[3:]], limit=1)
    assert message.endswith("part; see `split_column` ('' makes a seeded split), or raise `limit`")
    (root / "images" / f"{({*'abcd'} - {*found[0]}).pop()}.jpg").unlink()
    assert drawn(0) == found[0]


def test_lists_of_problems_show_ten_and_a_count(root):
    many = [f"images/x{row}.jpg,train,red,s" for row in range(5000)]
    lines = fails(root, [*GOOD, *many]).splitlines()
    assert lines[0].endswith("5000 of 5004 images are missing:")
    assert (lines[1], len(lines), lines[-1]) == ("  line 6: images/x0.jpg", 12, "  and 4990 more")
    lines = fails(root, [*GOOD, *["images/a.jpg,train,red,s"] * 30]).splitlines()
    assert (
        "  lines 2, 6, 7, 8, 9, 10, 11, 12, 13, 14 and 21 more: images/a.jpg stands more than once" in lines
    )
    lines = fails(root, [*GOOD, *[",train,red,s"] * 30]).splitlines()
    assert lines[-1] == "  and 20 more"
    parts = [f"images/{name}.jpg,{'y' * 300},red,s" for name in "abcd"]
    lines = fails(root, [GOOD[0], *parts]).splitlines()
    assert lines[1] == f"  line 2: '{'y' * 77}...'"


def test_a_name_too_long_for_a_file_is_reported_as_missing(root):
    message = fails(root, [*GOOD, f"images/{'x' * 3000}.jpg,train,red,s"])
    assert "1 of 5 images are missing:\n  line 6: 'images/xxx" in message
    assert len(message) < 500


def test_cells_that_do_not_fit_a_template_are_named_with_their_lines(root):
    for name in ("0001", "0002"):
        (root / "images" / f"{name}.jpg").touch()
    lines = ["id,split,color", "1,train,r", "2,test,b"]
    for template in ("images/{id:04d}.jpg", "images/{id:04}.jpg"):
        images = read(root, lines, image_template=template).images
        assert [images.name(row) for row in (0, 1)] == ["images/0001.jpg", "images/0002.jpg"]
    message = fails(root, [*lines, "x3,test,b"], image_template="images/{id:04d}.jpg")
    assert "rows that `image_template` does not fit:\n  line 4: id is 'x3', no whole number" in message


def test_an_image_column_is_no_template(root):
    lines = [GOOD[0].replace("image", "a.b{0}"), *GOOD[1:]]
    assert read(root, lines, image_column="a.b{0}").images.name(0) == "images/a.jpg"


def test_a_seeded_split_without_a_test_part_names_its_fields(root):
    assert "see `split_column`, `test_fraction`, `seed`, or meet" in fails(root, GOOD[:2], split_column=None)


def test_the_files_of_images_may_be_left_out_and_their_paths_are_still_checked(tmp_path):
    assert "none of its 4 images is there" in fails(tmp_path)
    assert read(tmp_path, files_required=False).images.name(2) == "images/c.jpg"
    for path, problem in (("", "line 5: image is blank"), ("images/c.jpg", "stands more than once")):
        lines = [*GOOD[:-1], GOOD[-1].replace("images/d.jpg", path)]
        assert problem in fails(tmp_path, lines, files_required=False)
    assert "leads out of" in fails(tmp_path, [*GOOD[:-1], "../d.jpg,test,,s"], files_required=False)


@pytest.fixture
def linked(root):
    """Writes the same images, and one elsewhere; its link is ``images/e.jpg``."""
    elsewhere = root.parent / f"{root.name}_elsewhere.jpg"
    Image.new("RGB", (2, 2)).save(elsewhere)
    (root / "images" / "e.jpg").symlink_to(elsewhere)
    return root


def test_a_link_out_of_the_folder_is_refused_and_named(linked):
    message = fails(linked, [*GOOD, "images/e.jpg,test,red,s"])
    assert (
        f"line 6: images/e.jpg leads out of {linked}, by a symbolic link to {linked}_elsewhere.jpg" in message
    )
    assert "set `outside`=true if you trust the table" in message


def test_whoever_trusts_the_table_may_read_images_elsewhere(linked):
    rows = [
        "images/e.jpg,test,red,s",
        f"../{linked.name}_elsewhere.jpg,test,red,s",
        "/no/such.jpg,test,red,s",
    ]
    write(linked, [*GOOD, *rows[:2]])
    catalogue = read_table(linked, limits=ImageLimits(outside=True, largest_image=7.0))
    assert len(catalogue.images) == 6
    assert catalogue.images.read(5, Transform(4, 4)).shape == (4, 4, 3)
    assert catalogue.images.largest_image == 7
    write(linked, [*GOOD, *rows])
    with pytest.raises(DataError, match=r"1 of 7 images are missing:\n  line 8: /no/such.jpg"):
        read_table(linked, limits=ImageLimits(outside=True))


def test_without_a_split_column_the_seeded_split_is_told_of(root):
    """Whoever has no such column has no name to set."""
    message = fails(root, [",".join(line.split(",")[::2]) for line in GOOD])
    assert "has no column 'split'; it has" in message
    assert message.endswith("Set `split_column` ('' makes a seeded split).")
    assert "see `split_column` ('' makes a seeded split)" in fails(root, GOOD[:3])


def test_a_table_or_a_folder_that_may_not_be_read_is_named(root, monkeypatch):
    """They ended as if nothing had foreseen it, and the images as if there were none."""
    with monkeypatch.context() as patch:
        # A folder without the right to enter it: its names may be listed, and none of its files is there.
        patch.setattr(os, "access", lambda path, mode: pathlib.Path(path).name != "images")
        patch.setattr(reader, "is_file", lambda path: path.parent.name != "images")
        expected = f"{root / 'images'}, which has the image of line 2, cannot be read: Permission denied"
        assert fails(root).endswith(expected)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(DataError, match="attributes.csv cannot be read: Permission denied"):
        read_table(root)
