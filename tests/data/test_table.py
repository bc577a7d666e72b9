import numpy as np
import pytest
from PIL import Image

from gradrev_jax.data.table import read_table
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


def read(root, lines=None, **options):
    write(root, lines or GOOD)
    return read_table(root, **options)


def fails(root, lines=None, **options):
    with pytest.raises(DataError) as error:
        read(root, lines, **options)
    return str(error.value)


def test_a_good_table(root):
    catalogue = read(root)
    assert catalogue.schema.names == ("color", "size")
    assert catalogue.schema.values == (("blue", "red"), ("m", "s"))
    assert catalogue.labels.tolist() == [[1, 1], [0, -1], [1, 0], [-1, 1]]
    assert catalogue.parts["train"].tolist() == [0, 1]
    assert catalogue.parts["test"].tolist() == [2, 3]
    assert catalogue.images.name(2) == "images/c.jpg"


def test_byte_order_mark_quotes_blank_lines_and_windows_line_ends(root):
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
    assert read(root, attributes=["color"]).labels.tolist() == [[1], [0], [1], [-1]]


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
    assert "column 'color' has only the value 'red' with data.min_count = 2; lower it" in message


def test_missing_folder_or_table(root, tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder; set data.root"):
        read_table(tmp_path / "nowhere")
    (root / "labels.csv").write_text("x")
    with pytest.raises(
        DataError, match=r"attributes.csv does not exist \(labels.csv there\); set data.table"
    ):
        read_table(root)


def test_empty_tables(root):
    (root / "attributes.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_table(root)
    assert "has a header but no rows" in fails(root, GOOD[:1])


def test_missing_columns_suggest_the_nearest(root):
    assert "no column 'Image'; did you mean 'image'? Set data.image_column." in fails(
        root, image_column="Image"
    )
    assert "no column 'part'; it has" in fails(root, split_column="part")
    assert "did you mean 'color'? Set data.attributes." in fails(root, attributes=("colour",))
    assert "no column 'idd'" in fails(root, image_template="images/{idd}.jpg")
    assert "Set data.image_template" in fails(root, image_template="images/{idd}.jpg")


def test_templates_that_are_none(root):
    assert "names no column" in fails(root, image_template="images/a.jpg")
    assert "is no template" in fails(root, image_template="images/{id.jpg")


def test_repeated_header_and_uneven_rows(root):
    assert "'color' more than once" in fails(root, ["image,split,color,color", *GOOD[1:]])
    message = fails(root, [*GOOD[:2], "images/b.jpg,train", *GOOD[3:], "images/e.jpg,test,red,s,x"])
    assert "the header has 4 fields, but\n  line 3: 2 fields\n  line 6: 5 fields" in message


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
    assert "images holds no such file. Set data.root" in message
    (root / "images").rmdir()
    assert "images does not exist. Set data.root" in fails(root)


def test_unknown_and_empty_parts(root):
    message = fails(root, [*GOOD[:3], "images/c.jpg,tset,red,m", "images/d.jpg,,,s"])
    assert "column 'split' must say train, validation, test, but\n  line 4: 'tset'\n  line 5: ''" in message
    assert "no row is in the test part" in fails(root, GOOD[:3])
    assert "no row is in the train part" in fails(root, [GOOD[0], *GOOD[3:]])


def test_attributes_without_a_choice(root):
    unlabelled = [GOOD[0], *(line.rsplit(",", 1)[0] + "," for line in GOOD[1:])]
    assert "column 'size' has no labelled value: there is nothing to learn" in fails(root, unlabelled)
    single = [GOOD[0], *(line.rsplit(",", 1)[0] + ",s" for line in GOOD[1:])]
    assert "column 'size' has only the value 's': there is" in fails(root, single)
    assert "no column is left" in fails(
        root, ["image,split", *(",".join(row.split(",")[:2]) for row in GOOD[1:])]
    )


def test_other_encodings_and_nul(root):
    write(root, [*GOOD[:2], "images/b.jpg,train,bläu,", *GOOD[3:]], encoding="latin-1")
    with pytest.raises(
        DataError, match=r"attributes.csv, line 3: byte 0xe4 is not UTF-8; save the table as UTF-8"
    ):
        read_table(root)
    assert "line 3: holds a NUL" in fails(root, [*GOOD[:2], "images/b.jpg,train,bl\0ue,", *GOOD[3:]])
    assert "line" in fails(root, [*GOOD[:2], 'images/b.jpg,train,"blue,', *GOOD[3:]])
