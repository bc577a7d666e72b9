"""Everyday words for what catalogues of clothes have other names for."""

import functools
from typing import NamedTuple

from gradrev_jax.serving.language.vocabulary import NOTHING, Meaning, Vocabulary, joined_meaning
from gradrev_jax.serving.language.word_forms import name_words, stem

# Words that mean the same, and behind ">" wider names to fall back on, the nearest first; where several are
# as near, "/" is between them, and the shopper is asked.
_LINES = """
crimson, scarlet, ruby, cherry, vermilion > red
burgundy, maroon, wine, bordeaux, oxblood > red
navy, navy blue > dark blue, blue
azure, cobalt, sapphire, sky blue, denim blue > light blue, blue
indigo > blue / purple
turquoise, teal, aqua, cyan, petrol > blue / green
emerald, jade, mint, lime > green
olive, khaki > green / beige / brown
violet, lilac, lavender, mauve, plum, aubergine > purple
magenta, fuchsia > pink / purple
rose, salmon, blush > pink
coral, peach, apricot > orange / pink
rust, copper > orange / brown
ivory, cream, ecru, off white > white / beige
sand, camel, nude, taupe > beige, tan, brown
chocolate, coffee, mocha, bronze > brown
mustard, lemon, ochre > yellow
charcoal, anthracite, graphite, slate > dark grey, grey
ebony, jet > black
golden > gold
silvery > silver
multicolored, multicoloured, multicolor, multicolour, colourful, colorful, multi, rainbow
tee, t-shirt
trousers, pants, slacks, chinos > bottoms
trainers, sneakers > sports shoes, shoes
pullover, jumper, sweater > knitwear
hoodie > sweatshirt, sweater
gown, frock, sundress > dress
purse, handbag, clutch > bag
rucksack, backpack, knapsack > bag
bag > handbag / backpack / shoulder bag / purse
underwear > briefs / boxers / vest / bra
blazer, jacket > coat
coat, parka > jacket
pumps, stilettos, heels > shoes
slippers > flip flops, sandals, flats
loafers, oxfords, brogues > formal shoes, shoes
joggers, sweatpants, track pants > pants, trousers
jeans, denims > trousers
blouse > top / shirt
tank top, camisole > top
hat, cap, beanie
tie, necktie
watch, wristwatch
plaid, tartan, gingham, checked, checkered, chequered
plain, solid, unicolor, single colored
stripes, striped, pinstripe
dots, dotted, polka dot, spotted
floral, flowers, flowery > printed
patterned, printed, graphic
ladies, lady, female, women, woman
gentleman, male, men, guys
autumn, fall
athletic, sporty, sports, gym, workout
elegant, business, office, formal, smart
everyday, casual, leisure
traditional, ethnic
sleeveless, armless
crew neck, round neck, round
"""


class _Names(NamedTuple):
    """Represents names to look for: one, or several that are as near; perhaps a wider one to fall back on."""

    names: tuple[str, ...]
    is_wider: bool = False


def synonym(word: str, vocabulary: Vocabulary, *, wider: bool = True) -> Meaning:
    """Returns the catalogue's meaning of a word that it does not know; ``NOTHING`` if nothing is.

    Args:
      word: the word.
      vocabulary: what words mean in the catalogue.
      wider: whether wider names are fallen back on, as "trousers" for "jeans".

    Example:
      >>> from gradrev_jax.core.attributes import AttributeSchema
      >>> vocabulary = Vocabulary(AttributeSchema(("color",), (("blue", "green", "red"),)))
      >>> synonym("crimson", vocabulary).values, synonym("turquoise", vocabulary).values
      ((('color', 'red'),), (('color', 'blue'), ('color', 'green')))
    """
    for names, is_wider in _names_by_stem().get(stem(word), ()):
        if is_wider and not wider:
            continue
        meanings = [vocabulary.meaning(name_words(name)) for name in names]
        found = functools.reduce(joined_meaning, meanings)
        if found.values:
            return found._replace(attributes=())
    return NOTHING


@functools.cache
def _names_by_stem() -> dict[str, list[_Names]]:
    """Returns the names to look for by the stem of each word, in their order; what is as near is together."""
    names: dict[str, list[_Names]] = {}
    for line in _LINES.strip().splitlines():
        same, _, wider = line.partition(" > ")
        words = same.split(", ")
        steps = [tuple(step.split(" / ")) for step in wider.split(", ")] if wider else []
        fallback = [_Names(step, is_wider=len(step) == 1) for step in steps]
        for word in words:
            others = [_Names((other,)) for other in words if other != word]
            names.setdefault("".join(map(stem, name_words(word))), []).extend([*others, *fallback])
    return names
