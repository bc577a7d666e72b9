import random
import sys
import time

import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import DataError
from gradrev_jax.serving.language.words import LONGEST_TEXT, parse_request

GARMENTS = AttributeSchema(
    ("category", "color", "length", "neckline", "pattern", "sleeve"),
    (
        ("coat", "dress", "shirt", "skirt", "t-shirt", "trousers"),
        ("black", "blue", "brown", "green", "pink", "red", "white", "yellow"),
        ("long", "medium", "short"),
        ("round", "square", "v-neck"),
        ("checked", "dotted", "plain", "striped"),
        ("long", "short", "sleeveless"),
    ),
)
# The names and values of the catalogue of photographs that the project is measured on.
PHOTOS = AttributeSchema(
    ("category", "color", "pattern", "gender", "season", "usage"),
    (
        (
            "Backpacks", "Belts", "Briefs", "Caps", "Casual Shoes", "Dresses", "Flats", "Flip Flops",
            "Formal Shoes", "Handbags", "Heels", "Innerwear Vests", "Jackets", "Jeans", "Kurtas", "Kurtis",
            "Sandals", "Shirts", "Shorts", "Socks", "Sports Shoes", "Sunglasses", "Sweaters", "Sweatshirts",
            "Ties", "Tops", "Track Pants", "Trousers", "Tshirts", "Wallets", "Watches",
        ),
        (
            "Beige", "Black", "Blue", "Brown", "Charcoal", "Cream", "Gold", "Green", "Grey", "Maroon",
            "Multi", "Navy Blue", "Olive", "Orange", "Pink", "Purple", "Red", "Silver", "Steel", "Tan",
            "White", "Yellow",
        ),
        ("checked", "printed", "solid", "striped"),
        ("Boys", "Girls", "Men", "Unisex", "Women"),
        ("Fall", "Spring", "Summer", "Winter"),
        ("Casual", "Ethnic", "Formal", "Sports"),
    ),
)  # fmt: skip
# Names in camel case and with underscores, values that are as common as "no" and "m", and an absence.
ODD = AttributeSchema(
    ("baseColour", "sleeve_length", "length", "logo", "hood", "size", "collar", "fit"),
    (
        ("Black/White", "Light Blue", "Blue", "Grey"),
        ("Long sleeve", "Short sleeve", "No sleeve"),
        ("Mini", "Midi", "Maxi"),
        ("yes", "no"),
        ("0", "1"),
        ("S", "M", "L", "42"),
        ("none", "mock turtle", "3/4 collar"),
        ("slim", "slim-straight", "a-line"),
    ),
)
TWINS = AttributeSchema(
    ("top color", "shoe color", "print"), (("red", "blue"), ("red", "black"), ("prints", "no print"))
)


def in_short(changes):
    return " ".join(
        (f"{name}!={'|'.join(unwanted)}" if unwanted else f"{name}={to}")
        + ("" if strength == 1 else f"*{strength}")
        for name, to, strength, unwanted in changes
    )


def told(request):
    """A request in short: its changes, its questions and what is unknown."""
    changes = in_short(request.changes)
    questions = "; ".join(f"{words}? {in_short(options)}" for words, options in request.questions)
    unknown = f"[{', '.join(request.unknown)}]" if request.unknown else ""
    return "; ".join(part for part in (changes, questions, unknown) if part)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("but red, with long sleeves", "color=red sleeve=long"),
        ("RED!", "color=red"),
        ("  réd\n", "color=red"),
        ("", ""),
        ("please, in a", ""),
        ("T-shirt", "category=t-shirt"),
        ("t_shirts", "category=t-shirt"),
        ("tshirt", "category=t-shirt"),
        ("dresses", "category=dress"),
        ("with stripes and dots", "stripes and dots? pattern=striped pattern=dotted"),
        ("with stripes", "pattern=striped"),
        ("a checkered shirt", "pattern=checked category=shirt"),
        ("v neck", "neckline=v-neck"),
        ("round neck", "neckline=round"),
        # the attribute is named
        ("color: red", "color=red"),
        ("color=red", "color=red"),
        ("red colour", "color=red"),
        ("change the color to red", "color=red"),
        ("sleeve=short length=long", "sleeve=short length=long"),
        ("sleeve short length long", "sleeve=short length=long"),
        ("short sleeve long length", "sleeve=short length=long"),
        ("short sleeves", "sleeve=short"),
        ("the sleeves should be long", "sleeve=long"),
        ("sleeves, short", "sleeve=short"),
        ("not long sleeves", "sleeve!=long"),
        ("sleeves not long", "sleeve!=long"),
        ("short", "short? length=short sleeve=short"),
        ("short, with long sleeves", "sleeve=long; short? length=short sleeve=short"),
        ("red sleeves", "color=red; sleeves? sleeve=long sleeve=short"),
        # one of several
        ("red or blue", "red or blue? color=red color=blue"),
        ("red/blue", "red/blue? color=red color=blue"),
        ("red blue", "red blue? color=red color=blue"),
        ("red, green or blue", "red, green or blue? color=red color=green color=blue"),
        ("short or long sleeves", "short or long? sleeve=short sleeve=long"),
        ("long sleeves or short sleeves", "long sleeves or short? sleeve=long sleeve=short"),
        ("red or red", "color=red"),
        ("red, blue", "red, blue? color=red color=blue"),
        ("red, no, blue", "color=blue"),
        ("red, no wait, blue", "color=blue"),
        ("red or blue. green", "red or blue … green? color=red color=blue color=green"),
        ("red or blue. actually green", "color=green"),
        ("red, rather blue", "color=blue"),
        ("blue, no, red", "color=red"),
        ("a red dress, no wait, a blue shirt", "color=blue category=shirt"),
        ("blue with red stripes", "pattern=striped; blue with red? color=blue color=red"),
        ("a red dress with white dots", "category=dress pattern=dotted; red … white? color=red color=white"),
        (
            "white shirt with blue checks",
            "category=shirt pattern=checked; white … blue? color=white color=blue",
        ),
        ("black dress, white collar", "category=dress; black … white? color=black color=white; [collar]"),
        ("red with frilly blue", "red … blue? color=red color=blue; [frilly]"),
        ("a red dress, not a blue one, but a green one", "category=dress color=green"),
        ("red, a bit more red", "color=red*0.5"),
        ("grean, green", "color=green"),
        # what is not wanted
        ("not red", "color!=red"),
        ("isn't red", "color!=red"),
        ("no red or blue", "color!=red|blue"),
        ("not red but blue", "color=blue"),
        ("blue, not red", "color=blue"),
        ("blue instead of red", "color=blue"),
        ("anything but red", "color!=red"),
        ("nothing but red", "color=red"),
        ("without red and long", "color!=red; long? length=long sleeve=long"),
        ("without sleeves", "sleeve=sleeveless"),
        ("w/o sleeves", "sleeve=sleeveless"),
        ("no sleeves and blue", "sleeve=sleeveless color=blue"),
        ("no sleeves or collar, in blue", "sleeve=sleeveless color=blue; [collar]"),
        ("sleeveless", "sleeve=sleeveless"),
        ("no pattern", "pattern=plain"),
        ("without a neckline", "neckline=None"),
        ("no frilly red", "color!=red; [frilly]"),
        ("without frills in red", "color=red; [frills]"),
        ("not short", "short? length!=short sleeve!=short"),
        ("any color", "color=None"),
        ("any colour but red or blue, long sleeves", "color!=red|blue sleeve=long"),
        ("any colour but v-neck", "color=None neckline=v-neck"),
        ("a different colour, but red", "color=red"),
        ("neither red nor blue", "color!=red|blue"),
        ("not red. Not blue, not red", "color!=red|blue"),
        ("not stripes, not dots", "pattern!=striped|dotted"),
        ("sleeve: none", "sleeve=sleeveless"),
        ("neckline = none, please", "neckline=None"),
        ("shirt not dress", "category=shirt"),
        ("I don't like the colour", "color=None"),
        ("a different colour, but long sleeves", "color=None sleeve=long"),
        ("keep the color, long sleeves", "sleeve=long"),
        # how strongly
        ("a bit more red", "color=red*0.5"),
        ("slightly shorter sleeves", "sleeve=short*0.5"),
        ("much redder", "color=red*1.5"),
        ("very very red", "color=red*1.5"),
        ("reddish", "color=red*0.5"),
        ("more red", "color=red"),
        ("less red", "color!=red*0.5"),
        ("it's far too red", "color!=red*0.5"),
        ("long sleeves too, red too and striped", "sleeve=long color=red pattern=striped"),
        ("not so red", "color!=red*0.5"),
        ("very red, long sleeves", "color=red*1.5 sleeve=long"),
        # misspelt
        ("yelow", "color=yellow"),
        ("blak", "color=black"),
        ("bleu", "color=blue"),
        ("trousres", "category=trousers"),
        ("long slevees", "sleeve=long"),
        ("grean", "grean? color=green"),
        ("back", "[back]"),
        ("rd", "[rd]"),
        # unknown
        ("frilly off-shoulder dress", "category=dress; [frilly, off-shoulder]"),
        ("sparkly, Sparkly and sparkly", "[sparkly, Sparkly]"),
        ("你好 red", "color=red; [你好]"),
    ],
)
def test_words_about_drawn_garments(text, expected):
    assert told(parse_request(text, GARMENTS)) == expected


# Found by use: the opposite of each was understood, or nothing, or a question that had its answer.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # all but one
        ("everything but red", "color!=red"),
        ("all but red", "color!=red"),
        ("anything except red", "color!=red"),
        ("everything except red or blue", "color!=red|blue"),
        ("all red but long sleeves", "color=red sleeve=long"),
        # too little of what is wanted
        ("not red enough", "color=red"),
        ("it isn't red enough", "color=red"),
        ("not enough red", "color=red"),
        ("sleeves not long enough", "sleeve=long"),
        ("not red enough, and not striped", "pattern!=striped color=red"),
        ("not striped, but red enough", "pattern!=striped color=red"),
        ("no stripes and red enough", "pattern!=striped color=red"),
        # questions for it
        ("don't you have it in red?", "color=red"),
        ("dont you have it in red", "color=red"),
        ("do you not have it in red?", "color=red"),
        ("isn't there a red one?", "color=red"),
        ("can’t I have it in red", "color=red"),
        ("couldn't it be red?", "color=red"),
        ("why not red", "color=red"),
        ("why isn't it in red?", "color=red"),
        ("I wouldn't mind red", "color=red"),
        ("it shouldn't be red", "color!=red"),
        ("it doesn't look good in red", "color!=red"),
        ("I can't have it in red", "color!=red"),
        # corrections
        ("red. No – blue", "color=blue"),
        ("red, no - blue", "color=blue"),
        ("red, no—blue", "color=blue"),
        ("red. No: blue", "color=blue"),
        ("no - not blue", "color!=blue"),
        ("without: stripes", "pattern!=striped"),
        ("without – stripes", "pattern!=striped"),
        ("without frills – red", "color=red; [frills]"),
        ("sleeves – short, length – long", "sleeve=short length=long"),
        ("T-shirt - red", "category=t-shirt color=red"),
        ("t – shirt", "category=t-shirt"),
        # no more of it
        ("no longer striped", "pattern!=striped"),
        ("not striped any more", "pattern!=striped"),
        ("any longer sleeves?", "sleeve=long"),
        ("fewer stripes", "pattern!=striped*0.5"),
        ("too many stripes", "pattern!=striped*0.5"),
        ("not so many stripes", "pattern!=striped*0.5"),
        ("-stripes", "pattern!=striped"),
        ("a T-shirt -red −striped", "color!=red pattern!=striped category=t-shirt"),
        ("- stripes\n- red", "pattern=striped color=red"),
        # lists
        ("not black, blue or green", "color!=black|blue|green"),
        ("not black, blue, or green", "color!=black|blue|green"),
        ("not black, blue and green", "color!=black|blue|green"),
        ("neither black, the blue nor green", "color!=black|blue|green"),
        ("no stripes, dots or sleeves", "pattern!=striped|dotted sleeve=sleeveless"),
        ("not black, blue or green, long sleeves", "color!=black|blue|green sleeve=long"),
        ("without stripes, red or blue", "pattern!=striped; red or blue? color=red color=blue"),
        ("not black, red", "color=red"),
        ("not black. Red, white or blue", "Red, white or blue? color=red color=white color=blue"),
        ("not black, red. Or blue", "red … blue? color=red color=blue"),
        ("no red, blue and striped", "color=blue pattern=striped"),
        # from one to another
        ("change red to blue", "color=blue"),
        ("change it from red to blue or green", "blue or green? color=blue color=green"),
        ("from long to short sleeves", "sleeve=short"),
        ("replace red with blue", "color=blue"),
        ("replace it with blue", "color=blue"),
        ("replace the sleeves with short ones", "sleeve=short"),
        ("swap the red for blue", "color=blue"),
        ("swap the stripes", "pattern!=striped"),
        ("turn red into blue", "color=blue"),
        ("change the red dress to a blue one", "category=dress color=blue"),
        ("change striped to dotted and red to blue", "pattern=dotted color=blue"),
        ("change red to another color", "color=None"),
        ("I prefer red to blue", "red to blue? color=red color=blue"),
        # what several attributes have
        ("too long", "long? length!=long*0.5 sleeve!=long*0.5"),
        ("not too short", "short? length!=short*0.5 sleeve!=short*0.5"),
        ("too long, sleeves", "sleeve!=long*0.5"),
        ("not length=long", "length!=long"),
        ("short sleeves, not long", "sleeve=short; long? length!=long"),
        ("not grean", "grean? color!=green"),
    ],
)
def test_what_is_said_is_not_turned_into_its_opposite(text, expected):
    assert told(parse_request(text, GARMENTS)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("navy", "color=Navy Blue"),
        ("navy blue", "color=Navy Blue"),
        ("navyblue", "color=Navy Blue"),
        ("Navy-Blue", "color=Navy Blue"),
        ("blue", "color=Blue"),
        ("gray", "color=Grey"),
        ("flip-flops for women", "category=Flip Flops gender=Women"),
        ("women's casual shoes", "gender=Women category=Casual Shoes"),
        ("mens shirt", "gender=Men category=Shirts"),
        ("for a girl", "gender=Girls"),
        ("casual", "usage=Casual"),
        ("sport", "usage=Sports"),
        ("shoes", "shoes? category=Casual Shoes category=Formal Shoes category=Sports Shoes"),
        ("shoes, formal shoes", "category=Formal Shoes"),
        ("a white dress with a belt", "color=White; dress with a belt? category=Dresses category=Belts"),
        ("t-shirt", "category=Tshirts"),
        ("tie", "category=Ties"),
        ("a watch", "category=Watches"),
        ("kurta", "category=Kurtas"),
        ("vest", "category=Innerwear Vests"),
        ("shorts", "category=Shorts"),
        ("short", "[short]"),
        ("sunglases", "category=Sunglasses"),
        ("plain", "pattern=solid"),
        ("no pattern", "pattern=solid"),
        ("anything but black", "color!=Black"),
        ("not for men", "gender!=Men"),
        ("without stripes", "pattern!=striped"),
        ("less formal", "usage!=Formal*0.5"),
        ("not formal enough", "usage=Formal"),
        ("not black, navy blue or grey", "color!=Black|Navy Blue|Grey"),
        ("no shoes", "category!=Casual Shoes|Formal Shoes|Sports Shoes"),
        ("I want something for summer, in grey or black, no stripes",
         "pattern!=striped season=Summer; grey or black? color=Grey color=Black"),
    ],
)  # fmt: skip
def test_words_about_the_catalogue_of_photographs(text, expected):
    assert told(parse_request(text, PHOTOS)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("light blue", "baseColour=Light Blue"),
        ("blue", "baseColour=Blue"),
        ("colour: grey", "baseColour=Grey"),
        ("base colour grey", "baseColour=Grey"),
        ("black/white", "baseColour=Black/White"),
        ("long sleeves", "sleeve_length=Long sleeve"),
        ("no sleeves", "sleeve_length=No sleeve"),
        ("sleeveless", "sleeve_length=No sleeve"),
        ("mini", "length=Mini"),
        ("mini length", "length=Mini"),
        ("with a logo", "logo=yes"),
        ("no logo", "logo=no"),
        ("logo: no", "logo=no"),
        ("logo = yes", "logo=yes"),
        ("no, blue", "baseColour=Blue"),
        ("with hood but without logo", "hood=1 logo=no"),
        ("hood: 0", "hood=0"),
        ("size M", "size=M"),
        ("m size", "size=M"),
        ("s", "[s]"),
        ("size 42", "size=42"),
        ("42", "size=42"),
        ("collarless", "collar=none"),
        ("3/4 collar", "collar=3/4 collar"),
        ("turtle", "collar=mock turtle"),
        ("no logo, hood or collar", "logo=no hood=0 collar=none"),
        ("no, logo", "logo=yes"),
        ("slim straight fit", "fit=slim-straight"),
        ("slim–straight", "fit=slim-straight"),
        ("slim fit", "fit=slim"),
        ("slim, straight", "slim, straight? fit=slim fit=slim-straight"),
        ("a-line", "fit=a-line"),
    ],
)
def test_names_that_are_odd(text, expected):
    assert told(parse_request(text, ODD)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red", "red? top color=red shoe color=red"),
        ("red shoe color", "shoe color=red"),
        ("shoe color red, top color blue", "shoe color=red top color=blue"),
        ("red top", "top color=red"),
        ("black", "shoe color=black"),
        ("no print", "print=no print"),
        ("prints", "print=prints"),
    ],
)
def test_attributes_that_share_words_and_values(text, expected):
    assert told(parse_request(text, TWINS)) == expected


def test_a_catalogue_of_another_language():
    schema = AttributeSchema(("цвет", "色"), (("красный", "синий"), ("赤", "青い")))
    assert told(parse_request("КРАСНЫЙ, 青い", schema)) == "цвет=красный 色=青い"


def test_names_without_a_letter_are_never_meant():
    schema = AttributeSchema(("?", "color"), (("-", "!!"), ("red", "...")))
    assert told(parse_request("red ? - !!", schema)) == "color=red"


def test_a_text_may_have_a_thousand_characters_and_no_more():
    assert told(parse_request("red".ljust(LONGEST_TEXT), GARMENTS)) == "color=red"
    with pytest.raises(
        DataError, match=r"1,001 characters is too long, at most 1,000 are read; shorten"
    ) as raised:
        parse_request("red".ljust(LONGEST_TEXT + 1), GARMENTS)
    assert raised.value.arguments == ("text",)


def texts():
    """Texts of any characters, of everyday words, and of words near those of the catalogues."""
    random_numbers = random.Random(0)
    words = "not no without or and , . a bit much more but with sleeves sleeve = : any keep less -".split()
    words += [word for schema in (GARMENTS, PHOTOS, ODD) for values in schema.values for word in values]
    for length in (1, 2, 5, 30, 1000, 1001, 10_000):
        for _ in range(4):
            points = [
                random_numbers.randrange(random_numbers.choice((127, sys.maxunicode))) for _ in range(length)
            ]
            yield "".join(map(chr, points))
            chosen = random_numbers.choices(words, k=length)
            chosen = [word[1:] + word[:1] if random_numbers.random() < 0.2 else word for word in chosen]
            yield " ".join(chosen)[:length]


def test_any_text_is_answered_within_a_second_with_names_of_the_schema():
    for text in [*texts(), "\ud800 red", "\u0301" * 1000, "’" * 1000, "ﷺ" * 1000, "a " * 500, "bl " * 333]:
        for schema in (GARMENTS, PHOTOS, ODD):
            start = time.process_time()
            try:
                request = parse_request(text, schema)
            except DataError:
                assert len(text) > LONGEST_TEXT
                continue
            assert time.process_time() - start < 1
            assert len(text) <= LONGEST_TEXT
            for change in request.changes:
                assert change.to is None or schema.index(change.attribute, change.to) >= 0
                assert change.to is None or not change.unwanted
                assert all(schema.index(change.attribute, value) >= 0 for value in change.unwanted)
                assert change.attribute in schema.names
                assert change.strength in (0.5, 1.0, 1.5)
            assert len({change.attribute for change in request.changes}) == len(request.changes)
            for question in request.questions:
                assert len(set(question.options)) == len(question.options) > 0
                for name, to, _, unwanted in question.options:
                    assert all(schema.index(name, value) >= 0 for value in (unwanted or (to,)))
                assert question.words
            assert all(request.unknown)


def test_every_value_of_a_catalogue_is_found_by_its_name():
    for schema in (GARMENTS, PHOTOS, ODD):
        for attribute, values in zip(schema.names, schema.values, strict=True):
            for value in values:
                for text in (f"{attribute}: {value}", f"{attribute} = {value.upper()}, please"):
                    assert told(parse_request(text, schema)) == f"{attribute}={value}", text
