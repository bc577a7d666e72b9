"""Everyday words for what catalogues of clothes have other names for."""

import functools

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


def synonym(word: str, vocabulary: Vocabulary) -> Meaning:
    """Returns the catalogue's meaning of a word that it does not know; ``NOTHING`` if nothing is.

    Args:
      word: the word.
      vocabulary: what words mean in the catalogue.

    Example:
      >>> from gradrev_jax.core.attributes import AttributeSchema
      >>> vocabulary = Vocabulary(AttributeSchema(("color",), (("blue", "green", "red"),)))
      >>> synonym("crimson", vocabulary).values, synonym("turquoise", vocabulary).values
      ((('color', 'red'),), (('color', 'blue'), ('color', 'green')))
    """
    for names in _names_by_stem().get(stem(word), ()):
        meanings = [vocabulary.meaning(name_words(name)) for name in names]
        found = functools.reduce(joined_meaning, meanings)
        if found.values:
            return found._replace(attributes=())
    return NOTHING


@functools.cache
def _names_by_stem() -> dict[str, list[tuple[str, ...]]]:
    """Returns the names to look for by the stem of each word, in their order; what is as near is together."""
    names: dict[str, list[tuple[str, ...]]] = {}
    for line in _LINES.strip().splitlines():
        same, _, wider = line.partition(" > ")
        words = same.split(", ")
        fallback = [tuple(step.split(" / ")) for step in wider.split(", ")] if wider else []
        for word in words:
            others = [(other,) for other in words if other != word]
            names.setdefault("".join(map(stem, name_words(word))), []).extend([*others, *fallback])
    return names
