import pytest

from gradrev_jax.evaluation.markdown import code, escape, table


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("neck_line (EU)", "neck_line (EU)"),
        ("a|b", "a\\|b"),
        ("*new* `x`", "\\*new\\* \\`x\\`"),
        ("_x_", "\\_x\\_"),
        ("<b>&amp;</b> R&D", "\\<b>&amp;amp;\\</b> R&D"),
        ("[a](b) $1$ ~c~ \\", "\\[a\\](b) \\$1\\$ \\~c\\~ \\\\"),
        ("two\nlines", "two lines"),
        ("", '""'),
        ("\udcff", "\ufffd"),
    ],
)
def test_a_name_is_shown_as_it_is(name, shown):
    assert escape(name) == shown


def test_a_long_name_is_shortened_but_no_path():
    assert escape("a" * 300) == "a" * 29 + "..." + "a" * 28
    assert code("a" * 300) == f"`{'a' * 300}`"
    assert code("`a``b") == "``` `a``b ```"


def test_a_table_keeps_its_cells_apart():
    assert table([("a", "b"), (escape("x|y"), "1")]) == ["| a | b |", "| --- | ---: |", "| x\\|y | 1 |"]
    assert table([("a", "b")], numbers=False)[1] == "| --- | --- |"


def test_a_sentence_is_not_shortened_whatever_its_characters():
    sentence = "1 image is in the test part and trained on, too: 图片/外套 0002.jpg (= 图片/外套 0001.jpg)"
    assert escape(sentence, width=None) == sentence
    assert escape(sentence) != sentence
