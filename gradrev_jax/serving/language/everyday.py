"""Everyday English around a change: words that negate, weigh, link, or mean nothing to a catalogue."""

import itertools
from typing import Literal, NamedTuple

WEAKER, STRONGER = 0.5, 1.5  # the factors of "a bit more red" and of "much redder"
RoleKind = Literal[
    "skip", "strength", "not", "too", "enough", "other", "same", "and", "or", "nor", "but", "with", "change",
    "swap",
]  # fmt: skip


class Role(NamedTuple):
    """Represents what an everyday word does to the words of the catalogue beside it.

    Attributes:
      kind: "skip" (nothing), "strength", "not", "too" (less of what follows), "enough" (takes a "not" back),
        "other" (any value but this), "same" (leave it), "and", "or", "nor" (both "or" and "not"), "but" (ends
        what came before), "with", "change" (from one value to another) or "swap" (one value for another).
      factor: the factor of the strength; 1 where there is none.
    """

    kind: RoleKind
    factor: float = 1.0


def _roles(role: Role, phrases: str) -> dict[tuple[str, ...], Role]:
    """Returns the role of each phrase, the phrases being separated by commas."""
    return {tuple(phrase.split()): role for phrase in phrases.split(",")}


_CONTRACTIONS = (
    "aren't", "can't", "couldn't", "didn't", "doesn't", "don't", "hasn't", "haven't", "isn't", "shouldn't",
    "wasn't", "weren't", "won't", "wouldn't",
)  # fmt: skip
# Words behind a contraction that leave nothing denied: "don't you have it in red?", "I don't mind red".
_NO_DENIAL = ("he", "i", "it", "mind", "she", "there", "they", "we", "you")


def _contractions() -> dict[tuple[str, ...], Role]:
    """Returns the roles of contractions, with and without an apostrophe, and of those that deny nothing."""
    words = [form for word in _CONTRACTIONS for form in (word, word.replace("'", ""))]
    return {
        **{(word,): Role("not") for word in words},
        **{pair: Role("skip") for pair in itertools.product(words, _NO_DENIAL)},
    }


# The words of a phrase -> its role.
ROLES: dict[tuple[str, ...], Role] = {
    **_roles(
        Role("skip"),
        "a, about, again, all, also, am, an, any more, anymore, anything, are, are there not, "
        "as, at, be, been, being, by, can, choose, could, do, do you not, does, each, else, even, ever, "
        "everything, exactly, find, finally, fine, for, get, getting, gets, give, "
        "go, good, got, great, had, has, have, having, hello, help, her, here, hers, hey, hi, him, his, "
        "how, i, i'd, i'll, i'm, i've, if, in, into, is, is there not, it, it's, item, its, itself, just, "
        "kind, kindly, let, let's, like, look, looking, looks, love, made, make, makes, many, may, maybe, "
        "me, might, mine, "
        "more, most, must, my, need, needs, nice, now, of, off, oh, ok, okay, on, one, ones, only, our, "
        "ours, out, perhaps, piece, please, pls, possible, prefer, preferably, product, really want, "
        "search, see, set, shall, she, he, should, show, so, some, something, "
        "shade, shades, hue, tone, sort, still, such, sure, "
        "take, than, thank, thanks, that, that's, the, their, them, then, there, these, they, "
        "thing, things, this, those, time, to, try, until, up, us, use, value, very own, want, "
        "wanted, wants, was, way, we, well, were, what, when, where, which, while, who, whose, why, "
        "why not, will, wish, wishes, would, yes, yet, you, your, yours, attribute",
    ),
    **_roles(
        Role("strength", WEAKER),
        "a bit, a bit more, a little, a little bit, a little more, a touch, a tad, bit, fairly, kind of, "
        "kinda, little, mildly, partly, slight, slightly, somewhat, sort of, tad, touch of",
    ),
    **_roles(
        Role("strength", STRONGER),
        "a lot, a lot more, absolutely, completely, entirely, extra, extremely, far, far more, fully, "
        "highly, lots, lot, much, much more, really, strongly, super, totally, truly, very, way more",
    ),
    **_roles(
        Role("not"),
        "all but, anything but, avoid, cannot, delete, drop, eliminate, everything but, except, excluding, "
        "forget, free of, get rid of, instead of, lacking, leave out, lose, minus, must not, "
        "neither, never, no, no longer, no more, non, none of, not, omit, other than, rather than, remove, "
        "skip, take away, take off, unlike, w o, without",
    ),
    **_contractions(),
    **_roles(Role("not", WEAKER), "fewer, less, not as, not so, not that, not too, not very"),
    **_roles(Role("too", WEAKER), "too, too many, too much"),
    **_roles(Role("enough"), "enough"),
    **_roles(Role("other"), "another, any, any other, different, other, some other, whatever, whichever"),
    **_roles(Role("same"), "don't change, keep, keep the same, leave, not change, same, the same"),
    **_roles(Role("and"), "and, as well as, both, plus"),
    **_roles(Role("or"), "alternatively, either, or, or else"),
    **_roles(Role("nor"), "nor"),
    **_roles(
        Role("but"),
        "although, but, except that, however, i mean, instead, no sorry, no wait, nothing but, only that, "
        "or rather, rather, sorry, though, wait, actually",
    ),
    **_roles(Role("with"), "having, w, wearing, with"),
    **_roles(Role("change"), "change, convert, from, switch, turn"),
    **_roles(Role("swap"), "exchange, replace, swap, trade"),
}
LONGEST_PHRASE = max(map(len, ROLES))
# Words near those of many catalogues that are more likely meant as they stand than misspelt.
_NEAR = (
    "back band bare beck bell bend best blank bold book boot both bow bred brow clean clear cold cool "
    "dark deep dot fall fill flat fold form full girl glow goal grand gray grew half hand hard head high "
    "hold hole hood line link lone long look loop loose main make mark mild mini neat none open pack pale "
    "past pick pile pine plan play pole pool pull ruin run said sale sand shine ship shop short shot side "
    "sink size skin skirt shirt slim soft sold sole song sort spot spread stain step still stock stop "
    "straight string tape tear test thin tight tile time tone torn tree trim warm wash wear while wide "
    "wild wine wing wish work worn"
)
NEVER_TYPOS = frozenset(_NEAR.split())
# Values that say that an attribute is absent, or present: meant only where the attribute is named.
ABSENT = ("none", "no", "without", "absent", "false", "n", "0", "nothing", "not applicable", "na")
PRESENT = ("yes", "with", "present", "true", "y", "1")
# Attributes whose absence has a name of its own.
PLAIN = ("plain", "solid", "unpatterned", "blank")
PATTERNS = ("pattern", "print", "graphic", "motif", "design")
