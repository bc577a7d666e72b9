from gradrev_jax.data.formats.table.notes import list_lines, quote_text


def test_quoted_texts_are_short_and_printable():
    assert quote_text("a\u2028b" + "x" * 100) == repr("a\u2028b" + "x" * 74 + "...")
    assert list_lines(range(1, 14)) == "lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more"
