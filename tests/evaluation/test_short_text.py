import pytest

from gradrev_jax.evaluation.short_text import (
    left_to_right,
    shorten,
    shorten_all,
    shorten_path,
    text_width,
    visible,
    wrap,
)

TEXTS = ["color", "", "红色的长裙" * 9, "e\u0301" * 40, "a " * 40, "ab" * 150, "ลูกไม้" * 20]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" a\n\tb\u2028c\u00a0", "a b c"),
        ("\x00\x1b", '""'),
        ("", '""'),
        ("\ud800.jpg", "\ufffd.jpg"),
        ("\ufeffred\u200e\u202e", "red"),
        ("❤\ufe0f", "❤"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_any_text_becomes_one_line_that_can_be_written(text, line):
    assert visible(text) == line
    visible(text).encode()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [12, 13, 20])
def test_nothing_becomes_wider_than_allowed(text, width):
    for short in (shorten(text, width), shorten_path(text, width), *shorten_all([text], width)):
        assert text_width(short) <= width
    lines = wrap(text, width, 3).split("\n")
    assert len(lines) <= 3
    assert all(text_width(line) <= width for line in lines)
    if text_width(text) <= width:
        assert shorten(text, width) == shorten_path(text, width) == text


def test_both_ends_of_a_name_and_the_end_of_a_path_are_kept():
    assert shorten("a" * 30 + "b" * 30, 13) == "aaaaa...bbbbb"
    assert shorten_path("a/very/long/prefix/0017.jpg", 15) == "...fix/0017.jpg"
    assert shorten_path("e\u0301e\u0301e\u0301e\u0301e\u0301", 4) == "...e\u0301", (
        "an accent stays with its letter"
    )


def test_different_names_stay_different():
    middle = [f"{'a' * 20} {number} {'b' * 20}" for number in range(40)]
    late = [f"{'a' * 60}{number}{'b' * 60}" for number in range(40)]
    spaced = ["light blue", "light  blue", "light blue (2)", "", '""']
    texts = [*middle, *late, *spaced]
    short = shorten_all(texts, 20)
    assert len(set(short)) == len(texts)
    assert all(text_width(line) <= 20 for line in short)
    assert all(str(number) in short[number] for number in range(40)), "what differs is shown"
    assert shorten_all(["red", "red"], 20) == ["red", "red"], "one and the same name"


def test_parts_in_arabic_letters_stand_in_their_order():
    mark = "\N{LEFT-TO-RIGHT MARK}"
    assert left_to_right("a: b -> c\nd") == "a: b -> c\nd"
    assert left_to_right("א: ב\nג") == f"{mark}א{mark}: {mark}ב\n{mark}ג"
