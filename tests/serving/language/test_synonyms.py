import importlib.util

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.serving.language.guesses import MAYBE, SURE, decide, phrase_of
from gradrev_jax.serving.language.synonyms import synonym
from gradrev_jax.serving.language.vocabulary import vocabulary_of
from gradrev_jax.serving.language.word_vectors import MODULE, load_word_vectors
from gradrev_jax.serving.language.words import parse_request
from tests.serving.language.test_words import GARMENTS, PHOTOS, told

# Words that the catalogue of photographs does not know -> the values that would be right.
MEANT = {
    "crimson": "Red", "scarlet": "Red", "ruby": "Red", "burgundy": "Maroon", "turquoise": "Blue",
    "azure": "Blue", "indigo": "Blue", "violet": "Purple", "lilac": "Purple", "lavender": "Purple",
    "magenta": "Pink", "ivory": "White|Cream", "ebony": "Black", "emerald": "Green",
    "khaki": "Beige|Olive|Tan", "golden": "Gold", "silvery": "Silver", "mustard": "Yellow",
    "chocolate": "Brown", "multicolored": "Multi", "colourful": "Multi", "tee": "Tshirts",
    "sneakers": "Sports Shoes|Casual Shoes", "trainers": "Sports Shoes", "pumps": "Heels",
    "stilettos": "Heels", "shades": "Sunglasses", "rucksack": "Backpacks",
    "purse": "Handbags|Wallets", "blouse": "Tops|Shirts", "pullover": "Sweaters|Sweatshirts",
    "jumper": "Sweaters", "hoodie": "Sweatshirts", "denims": "Jeans",
    "pants": "Trousers|Track Pants", "slacks": "Trousers", "gown": "Dresses", "frock": "Dresses",
    "hat": "Caps", "necktie": "Ties", "blazer": "Jackets", "coat": "Jackets",
    "underwear": "Briefs|Innerwear Vests", "slippers": "Flip Flops|Sandals",
    "loafers": "Casual Shoes|Formal Shoes|Flats", "wristwatch": "Watches",
    "joggers": "Track Pants|Sports Shoes", "bag": "Handbags|Backpacks", "plaid": "checked",
    "tartan": "checked", "plain": "solid", "pinstripe": "striped", "patterned": "printed",
    "floral": "printed", "female": "Women", "male": "Men", "lady": "Women", "ladies": "Women",
    "gentleman": "Men", "guys": "Men", "son": "Boys", "daughter": "Girls", "autumn": "Fall",
    "beach": "Summer", "snow": "Winter", "office": "Formal", "business": "Formal", "gym": "Sports",
    "athletic": "Sports", "workout": "Sports", "running": "Sports|Sports Shoes",
    "everyday": "Casual", "elegant": "Formal", "traditional": "Ethnic", "indian": "Ethnic",
}  # fmt: skip
# Words that mean none of its values.
NOT_MEANT = (
    "cheap expensive banana sparkly computer friend quickly frilly cotton leather big happy pocket "
    "button zip collar wedding comfortable france tuesday new cute brand delivery discount soft warm "
    "heavy sustainable vintage hello size sleeve neckline logo short long waterproof"
).split()
OPTIONS = [
    (name, value) for name, values in zip(PHOTOS.names, PHOTOS.values, strict=True) for value in values
]


def right(word, values):
    return any(value in MEANT.get(word, "").split("|") for _, value in values)


@pytest.mark.skipif(importlib.util.find_spec(MODULE) is None, reason="the text model is not installed")
def test_what_the_text_model_makes_of_words_that_a_catalogue_does_not_know():
    """The record that the thresholds were chosen by: nothing is taken for what it is not."""
    words = [*MEANT, *NOT_MEANT]
    scores = load_word_vectors().similar(words, [phrase_of(*option) for option in OPTIONS])
    found = {word: decide(row, OPTIONS) for word, row in zip(words, scores, strict=True)}
    changed = [word for word, (kind, _) in found.items() if kind == "meaning"]
    asked = [word for word, (kind, _) in found.items() if kind == "ask"]
    assert all(right(word, found[word][1].values) for word in changed)
    assert (len(changed), len(asked), len(MEANT), len(NOT_MEANT)) == (13, 24, 75, 38)
    assert sum(right(word, found[word][1].values) for word in asked) == 20
    assert [word for word in asked if word in NOT_MEANT] == ["sleeve", "short"]


def test_what_the_written_synonyms_make_of_the_same_words():
    vocabulary = vocabulary_of(PHOTOS)
    found = {word: synonym(word, vocabulary).values for word in [*MEANT, *NOT_MEANT]}
    assert not any(found[word] for word in NOT_MEANT)
    known = [word for word in MEANT if found[word]]
    assert all(right(word, found[word]) for word in known)
    assert len(known) == 68


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crimson", "color=Red"),
        ("a crimson tee, please", "color=Red category=Tshirts"),
        ("burgundy", "color=Maroon"),
        ("turquoise", "turquoise? color=Blue color=Green"),
        ("not crimson", "color!=Red"),
        ("slightly crimson", "color=Red*0.5"),
        ("crimson or azure", "crimson or azure? color=Red color=Blue"),
        ("sneakers for ladies", "category=Sports Shoes gender=Women"),
        ("an autumn pullover", "season=Fall category=Sweaters"),
        ("a shade of red", "color=Red"),
    ],
)
def test_written_synonyms_in_a_text(text, expected):
    assert told(parse_request(text, PHOTOS)) == expected


def test_a_synonym_falls_back_on_what_the_catalogue_has():
    assert told(parse_request("burgundy pants", GARMENTS)) == "color=red category=trousers"
    schema = AttributeSchema(("color",), (("wine", "blue"),))
    assert told(parse_request("burgundy", schema)) == "color=wine"
    assert told(parse_request("teal", schema)) == "color=blue"
    assert told(parse_request("ivory", schema)) == "[ivory]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pants", "pants? category=Trousers category=Track Pants"),
        ("blue pants", "color=Blue; pants? category=Trousers category=Track Pants"),
        ("no pants", "category!=Trousers|Track Pants"),
        ("track pants", "category=Track Pants"),
        ("trousers", "category=Trousers"),
        ("vest", "category=Innerwear Vests"),
        ("navy", "color=Navy Blue"),
    ],
)
def test_a_part_of_a_name_whose_synonym_is_a_whole_one_is_asked_back(text, expected):
    """Found by use: "pants" were Track Pants without a question, beside Trousers."""
    assert told(parse_request(text, PHOTOS)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bag", "bag? category=Handbags category=Duffel Bag"),
        ("jeans", "category=Skinny Jeans"),  # trousers are wider
        ("coat", "category=Trench Coat"),
        ("pants", "category=Trousers"),
    ],
)
def test_a_part_of_a_name_means_more_than_a_wider_synonym(text, expected):
    names = ("Skinny Jeans", "Trousers", "Duffel Bag", "Handbags", "Trench Coat", "Jackets")
    assert told(parse_request(text, AttributeSchema(("category",), (names,)))) == expected


def similar_to(table):
    """Similarities by a table of (word, candidate), 0 for all other pairs."""

    def similar(words, candidates):
        asked.append(words)
        return np.array([[table.get((word, candidate), 0) for candidate in candidates] for word in words])

    asked = similar.asked = []
    return similar


def test_similar_words_are_changed_asked_or_unknown():
    similar = similar_to(
        {
            ("ruddy", "red color"): 0.9,
            ("ruddy", "pink color"): SURE,
            ("muddy", "brown color"): 0.9,
            ("muddy", "black color"): 0.89,
            ("moody", "black color"): MAYBE,
            ("moody", "blue color"): MAYBE - 0.01,
        }
    )
    expected = {
        "ruddy, please": "color=red",
        "muddy": "muddy? color=brown color=black",
        "moody": "moody? color=black",
        "not moody": "moody? color!=black",
        "mellow": "[mellow]",
        "mellow moody. Blue": "moody … Blue? color=black color=blue; [mellow]",
        "mellow moody. No, blue": "color=blue; [mellow]",
    }
    assert {text: told(parse_request(text, GARMENTS, similar=similar)) for text in expected} == expected


def test_several_words_are_compared_before_each_of_them():
    similar = similar_to({("mermaid hem", "long length"): 0.8, ("hem", "red color"): 0.8})
    request = parse_request("with a fluffy mermaid hem, long sleeves", GARMENTS, similar=similar)
    assert told(request) == "length=long sleeve=long; [fluffy]"
    assert similar.asked == [
        ["fluffy mermaid hem", "fluffy mermaid", "mermaid hem", "fluffy", "mermaid", "hem"]
    ]


def test_the_text_model_is_asked_only_of_what_nothing_else_knows():
    similar = similar_to({})
    parse_request("yelow crimson shirt in blue, please", GARMENTS, similar=similar)
    assert similar.asked == []
    assert told(parse_request("grean", GARMENTS, similar=similar)) == "grean? color=green"
    assert similar.asked == [["grean"]]


def test_the_number_of_words_compared_is_limited():
    similar = similar_to({})
    parse_request(" ".join(f"w{i}" for i in range(200)), GARMENTS, similar=similar)
    assert len(similar.asked[0]) == 24
