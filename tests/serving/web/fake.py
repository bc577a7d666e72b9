"""A retriever of random features: the methods of ``Retriever``, by loops, for the server's tests.

``python -m tests.serving.web.fake --port=8000`` serves it, with the page and drawn pictures.
"""

import argparse
import io
import re
import time
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import ConfigError, DataError, did_you_mean
from gradrev_jax.serving.changes import Change

SCHEMA = AttributeSchema(
    ("category", "color", "sleeve", "gender"),
    (
        ("coat", "dress", "jeans", "shirt", "t-shirt"),
        ("black", "blue", "green", "grey", "red", "white", "yellow"),
        ("long", "short", "sleeveless"),
        ("men", "women", "girls", "boys"),
    ),
)
RGB = {
    "black": (25, 25, 28),
    "blue": (50, 90, 190),
    "green": (40, 140, 80),
    "grey": (130, 130, 135),
    "red": (200, 40, 45),
    "white": (240, 240, 238),
    "yellow": (235, 200, 60),
}


class FakeFound(NamedTuple):
    rows: np.ndarray
    distances: np.ndarray
    names: list
    labels: np.ndarray
    predicted: np.ndarray
    matches: np.ndarray
    differs: np.ndarray
    milliseconds: float
    exact: bool = True


class FakeItem:
    def __init__(self, shop, row, labels, features, unwanted=None):
        self._shop, self.row, self.labels, self._features = shop, row, labels, features
        # Attribute -> the values that results must not have, and whether those that do are left out.
        self._unwanted = unwanted or {}

    @property
    def predicted(self):
        return np.array([int(np.argmax(block)) for block in self._blocks()])

    @property
    def probabilities(self):
        schema = self._shop.schema
        return {
            name: dict(zip(values, (np.exp(block) / np.exp(block).sum()).tolist(), strict=True))
            for name, values, block in zip(schema.names, schema.values, self._blocks(), strict=True)
        }

    def _blocks(self):
        return np.split(self._features * 4, self._shop.schema.offsets[1:])

    def changes(self, changes):
        schema, features, labels = self._shop.schema, self._features.copy(), self.labels.copy()
        unwanted = dict(self._unwanted)
        for attribute, to, strength, denied in changes:
            if attribute not in schema.names:
                hint = did_you_mean(attribute, schema.names, otherwise="see the schema")
                raise DataError(f"no attribute {attribute!r}; {hint}")
            n = schema.names.index(attribute)
            block = slice(schema.offsets[n], schema.offsets[n] + schema.sizes[n])
            unwanted.pop(n, None)
            own = self.predicted[n] if labels[n] < 0 else labels[n]
            if to is None:
                values = [schema.values[n].index(value) for value in denied]
                unwanted[n] = values or [own], bool(denied)
                if own not in unwanted[n][0]:
                    continue
            labels[n] = -1 if to is None else schema.values[n].index(to)
            wanted = np.zeros(schema.sizes[n])
            if to is not None:
                wanted[labels[n]] = 1
            features[block] += strength * (wanted - features[block])
        return FakeItem(self._shop, self.row, labels, features, unwanted)

    def change(self, *, strength=1.0, **changes):
        return self.changes([Change(name, to, strength) for name, to in changes.items()])

    def _differs(self, labels):
        """In which attributes labels are not those asked for, [..., N]."""
        differs = (labels != self.labels) | (self._shop.labels < 0).all(axis=0)
        for n, (values, _) in self._unwanted.items():
            differs[..., n] = np.isin(labels[..., n], values)
        return differs

    def counts(self, where=None):
        schema, counts = self._shop.schema, {}
        for n, (name, values) in enumerate(zip(schema.names, schema.values, strict=True)):
            counts[name] = dict.fromkeys(values, 0)
            for labels in self._shop.labels:
                allowed = all(
                    schema.values[m][labels[m]] in listed and labels[m] >= 0
                    for m, listed in (
                        (schema.names.index(each), listed) for each, listed in (where or {}).items()
                    )
                )
                others = np.delete(self._differs(labels), n)
                if allowed and not others.any() and labels[n] >= 0:
                    counts[name][values[labels[n]]] += 1
        return counts

    def search(self, k=20, *, look=None, where=None, exclude=()):
        shop, started = self._shop, time.perf_counter()
        if look is not None and not shop.has_look:
            raise ConfigError("the representation has no look; leave `look` out")
        if shop.delay:
            time.sleep(shop.delay)
        gallery = shop.features + (look or 0) * shop.looks
        distances = np.linalg.norm(gallery - self._features, axis=1)
        for name, values in (where or {}).items():
            n = shop.schema.names.index(name)
            values = [values] if isinstance(values, str) else values
            rows = [shop.schema.values[n].index(value) for value in values]
            distances[~np.isin(shop.labels[:, n], rows)] = np.inf
        for n, (values, is_left_out) in self._unwanted.items():
            if is_left_out:
                distances[np.isin(shop.labels[:, n], values)] = np.inf
        distances[list(exclude)] = np.inf
        rows = np.argsort(distances, kind="stable")[:k]
        rows = rows[np.isfinite(distances[rows])]
        differs = self._differs(shop.labels[rows])
        return FakeFound(
            rows,
            distances[rows],
            [shop.names[row] for row in rows],
            shop.labels[rows],
            shop.predicted[rows],
            ~differs.any(axis=1),
            differs,
            1000 * (time.perf_counter() - started),
        )


class FakeRetriever:
    """Random labels, features that are noisy one-hots of them, and drawn pictures."""

    def __init__(self, num_items=300, schema=SCHEMA, *, has_look=True, delay=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.schema, self.name, self.num_items, self.delay = schema, "random", num_items, delay
        self.labels = np.stack([rng.integers(-1, size, num_items) for size in schema.sizes], axis=1)
        self.features = rng.normal(size=(num_items, schema.num_values)) * 0.2
        for row, labels in enumerate(self.labels):
            for offset, label in zip(schema.offsets, labels, strict=True):
                self.features[row, offset + max(label, 0)] += 1
        self.looks = rng.normal(size=self.features.shape) * 0.1
        self.has_look, self.look = has_look, 0.5 if has_look else None
        self.names = [f"garments/{row:05d}.jpg" for row in range(num_items)]
        self.predicted = np.stack(
            [np.argmax(block, axis=1) for block in np.split(self.features, schema.offsets[1:], axis=1)],
            axis=1,
        )
        self.is_warm = False

    def item(self, row):
        if isinstance(row, str):
            row = int(re.search(r"\d+", row)[0])
        return FakeItem(self, row, self.labels[row], self.features[row])

    def photo(self, photo):
        try:
            with Image.open(io.BytesIO(photo)) as image:
                pixel = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
        except Exception as error:
            raise DataError(f"the photograph cannot be decoded: {error}") from error
        rng = np.random.default_rng(pixel)
        labels = np.full(self.schema.num_attributes, -1)
        return FakeItem(self, None, labels, rng.normal(size=self.schema.num_values) * 0.2)

    def picture(self, row, size=None):
        size = size or 512
        words = dict(zip(self.schema.names, self.labels[row].tolist(), strict=True))
        color = list(RGB.values())[words.get("color", 0) % len(RGB)]
        image = Image.new("RGB", (size * 3 // 4, size), (228, 226, 220))
        draw = ImageDraw.Draw(image)
        w, h = image.size
        draw.rectangle((w * 0.3, h * 0.2, w * 0.7, h * 0.8), fill=color)
        sleeve = 0.75 if words.get("sleeve") == 0 else 0.45
        if words.get("sleeve") != 2:
            draw.rectangle((w * 0.16, h * 0.22, w * 0.27, h * sleeve), fill=color)
            draw.rectangle((w * 0.73, h * 0.22, w * 0.84, h * sleeve), fill=color)
        draw.text((w * 0.35, h * 0.86), str(row), fill=(60, 60, 60))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=85)
        return out.getvalue()

    def warm(self):
        self.is_warm = True

    def close(self):
        pass


class FakeQuestion(NamedTuple):
    words: str
    options: tuple


class FakeRequest(NamedTuple):
    changes: tuple
    questions: tuple
    unknown: tuple


def fake_words(text, schema=SCHEMA):
    """Names of values become changes, `not` denies, `dark` is ambiguous, other long words are unknown."""
    changes, questions, unknown = [], [], []
    words = re.findall(r"[\w-]+", text.lower())
    for before, word in zip(["", *words], words, strict=False):
        found = [
            (name, word) for name, values in zip(schema.names, schema.values, strict=True) if word in values
        ]
        if found and before == "not":
            changes.append(Change(found[0][0], None, unwanted=(word,)))
        elif found:
            changes.append(Change(*found[0]))
        elif word == "dark":
            options = tuple(Change("color", value) for value in ("black", "blue", "grey"))
            questions.append(FakeQuestion(word, options))
        elif word not in ("but", "with", "and", "in", "a", "sleeves", "sleeve", "no", "not"):
            unknown.append(word)
    return FakeRequest(tuple(changes), tuple(questions), tuple(unknown))


def main():
    from gradrev_jax.serving.web.app import create_app
    from gradrev_jax.serving.web.server import listen, serve

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--no-look", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each search takes longer")
    given = parser.parse_args()
    shop = FakeRetriever(given.items, has_look=not given.no_look, delay=given.delay)
    app = create_app(shop, words=fake_words, gallery="random garments", hosts=("127.0.0.1", "localhost"))
    serve(app, listen("127.0.0.1", given.port), ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
