"""Results as text for a terminal."""

import numpy as np

from gradrev_jax import AttributeSchema
from gradrev_jax.serving.found import Found
from gradrev_jax.serving.shown import results_table


def test_names_and_values_of_any_characters_take_one_line_and_command_no_terminal():
    names = ["a\nb.jpg", "esc\033[31mred\033]0;title\007.jpg", "right\u202eto left.jpg"]
    found = Found(
        schema=AttributeSchema(("color",), (("blue", "re\033[1md"),)),
        rows=np.arange(3),
        distances=np.zeros(3),
        names=names,
        labels=np.ones((3, 1), int),
        predicted=np.ones((3, 1), int),
        probabilities=np.ones((3, 1)),
        wanted=np.zeros(1, int),
        unwanted=np.zeros(2, bool),
        milliseconds=1.0,
    )
    for text in (results_table(found), repr(found)):
        assert len(text.splitlines()) == 4
        assert not {"\033", "\007", "\u202e"} & set(text)
