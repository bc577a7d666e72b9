"""Draws one garment from the values of its attributes."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

COLORS = {
    "black": (38, 38, 42),
    "blue": (45, 85, 190),
    "brown": (120, 75, 42),
    "green": (45, 140, 70),
    "pink": (240, 140, 180),
    "red": (200, 35, 40),
    "white": (246, 246, 242),
    "yellow": (240, 205, 50),
}
PATTERNS = ("checked", "dotted", "plain", "striped")
SLEEVES = {"long": 1.0, "short": 0.4, "sleeveless": 0.0}  # share of the arm that is covered
NECKLINES = ("round", "square", "v-neck")
LENGTHS = ("long", "medium", "short")
SUPERSAMPLING = 3  # the factor by which drawings are larger before they are averaged, for smooth edges

Point = tuple[float | int, float | int]


@dataclasses.dataclass(frozen=True)
class Body:
    """Represents the outline of a category in an image of 1 x 1.

    Widths are half widths from the centre line, heights are measured from the top.

    Attributes:
      top: the height of the shoulders, or of the waistband.
      shoulder: the half width at that height.
      chest: the half width at the armpits.
      waist: the half width at the waist.
      hem: the half width at the bottom.
      bottoms: the height of the bottom for each length.
    """

    top: float
    shoulder: float
    chest: float
    waist: float
    hem: float
    bottoms: Mapping[str, float]


UPPER = {
    "coat": Body(0.15, 0.17, 0.19, 0.18, 0.23, {"short": 0.62, "medium": 0.75, "long": 0.89}),
    "dress": Body(0.13, 0.14, 0.135, 0.105, 0.25, {"short": 0.58, "medium": 0.73, "long": 0.89}),
    "shirt": Body(0.18, 0.175, 0.165, 0.15, 0.165, {"short": 0.54, "medium": 0.66, "long": 0.79}),
    "t-shirt": Body(0.18, 0.175, 0.16, 0.155, 0.16, {"short": 0.52, "medium": 0.64, "long": 0.77}),
}
LOWER = {
    "skirt": Body(0.2, 0.11, 0.13, 0.15, 0.26, {"short": 0.44, "medium": 0.62, "long": 0.84}),
    "trousers": Body(0.14, 0.12, 0.15, 0.16, 0.16, {"short": 0.42, "medium": 0.64, "long": 0.88}),
}
CATEGORIES = tuple(sorted(UPPER | LOWER))
NECK = 0.075  # the half width of a neckline


def draw_garment(
    garment: Mapping[str, str], size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "S S 3"]:
    """Draws one garment on a plain background.

    Args:
      garment: the values of category, color, pattern and length, and of sleeve and neckline if the category
        has them.
      size: the height and width of the image, in pixels.
      rng: the random numbers for everything that no attribute decides: position, tilt, shade, background,
        scale and angle of the pattern.

    Example:
      >>> skirt = {"category": "skirt", "color": "red", "pattern": "dotted", "length": "short"}
      >>> draw_garment(skirt, 64, np.random.default_rng(0)).shape
      (64, 64, 3)
    """
    canvas = Canvas.random(size * SUPERSAMPLING, rng)
    draw = _draw_upper if garment["category"] in UPPER else _draw_lower
    fabric = Fabric.random(garment["color"], rng).sheet(garment["pattern"], canvas.size)
    background = rng.uniform(205, 250) + rng.uniform(-6, 6, 3)
    silhouette, details = draw(garment, canvas)
    pixels = np.where(silhouette[..., None], fabric * details[..., None], background)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return np.asarray(picture.reduce(SUPERSAMPLING))


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A square of pixels, onto which the unit square is moved, scaled and tilted."""

    size: int
    scale: Point
    shift: Point
    tilt: float

    @classmethod
    def random(cls, size: int, rng: np.random.Generator) -> "Canvas":
        """Creates a canvas with a random position, scale and tilt."""
        width, height = rng.uniform(0.86, 1.04), rng.uniform(0.92, 1.02)
        shift = rng.uniform(-0.03, 0.03), rng.uniform(-0.02, 0.02)
        return cls(size, (width, height), shift, np.deg2rad(rng.uniform(-6, 6)))

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Returns the pixels of points given as (distance right of the centre line, height from the top)."""
        x, y = np.transpose(points) * np.reshape(self.scale, (2, 1))
        y = y - self.scale[1] / 2
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        columns = (cosine * x - sine * y + self.shift[0] + 0.5) * self.size
        rows = (sine * x + cosine * y + self.shift[1] + 0.5) * self.size
        return list(zip(columns.tolist(), rows.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class Fabric:
    """Represents a fabric: two colours, a light across it, and how its pattern lies.

    Attributes:
      base: the red, green and blue of the fabric, 0 to 255 and slightly beyond.
      second: the same of its pattern.
      light: how much the brightness varies across the fabric.
      from_left: whether it varies from the left to the right, or else from the top to the bottom.
      angle: the angle of the pattern, in radians.
      is_turned: whether the pattern is turned by a right angle besides.
      period: the distance of two stripes or dots, as a fraction of the image's width.
    """

    base: Float[np.ndarray, "3"]
    second: Float[np.ndarray, "3"]
    light: float
    from_left: bool
    angle: float
    is_turned: bool
    period: float

    @classmethod
    def random(cls, color: str, rng: np.random.Generator) -> "Fabric":
        """Creates a random fabric of a colour."""
        base = (np.asarray(COLORS[color]) + rng.uniform(-12, 12, 3)) * rng.uniform(0.88, 1.06)
        # The second colour is darker on a light fabric and lighter on a dark one.
        toward = 0.0 if base.mean() > 150 else 255.0
        second = base + rng.uniform(0.4, 0.55) * (toward - base)
        light, from_left = rng.uniform(0.02, 0.12), rng.random() < 0.5
        angle, period = rng.uniform(-0.5, 0.5), rng.uniform(0.075, 0.11)
        return cls(base, second, light, from_left, angle, bool(rng.integers(2)), period)

    def sheet(self, pattern: str, size: int) -> Float[np.ndarray, "S S 3"]:
        """Returns a sheet of the fabric, as large as the canvas."""
        light = 1 + self.light * (_grid(size)[1 if self.from_left else 0] - 0.5)
        angle = self.angle + (np.pi / 2) * self.is_turned
        is_second = _is_second(pattern, size, angle, self.period)
        return np.where(is_second[..., None], self.second, self.base) * light[..., None]


class _Mask:
    """A mask of the canvas, which polygons are added to and cut from."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._image = Image.new("L", (canvas.size, canvas.size))
        self._draw = ImageDraw.Draw(self._image)

    def add(self, *points: Point, mirrored: bool = False, cut: bool = False) -> None:
        """Fills a polygon and, if asked, its mirror image, or cuts them out."""
        self._draw.polygon(self._canvas.place(points), fill=0 if cut else 255)
        if mirrored:
            self.add(*((-x, y) for x, y in points), cut=cut)

    def line(self, start: Point, end: Point, width: float = 0.008) -> None:
        """Draws a line."""
        pixels = max(1, round(width * self._canvas.size))
        self._draw.line(self._canvas.place([start, end]), fill=255, width=pixels)

    def dot(self, center: Point, radius: float = 0.011) -> None:
        """Draws a disc."""
        self.add(*_ellipse(center, radius, radius))

    def array(self) -> Bool[np.ndarray, "S S"]:
        """Returns the mask."""
        return np.asarray(self._image) > 0

    def rim(self) -> Bool[np.ndarray, "S S"]:
        """Returns the pixels of the mask next to its outside."""
        return self.array() & (np.asarray(self._image.filter(ImageFilter.MinFilter(5))) == 0)


def _draw_upper(garment: Mapping[str, str], canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Returns the silhouette and the brightness of a garment with shoulders."""
    body, category = UPPER[garment["category"]], garment["category"]
    top, bottom = body.top, body.bottoms[garment["length"]]
    armpit, waist = top + 0.16, top + 0.28
    silhouette = _Mask(canvas)
    right = [
        (NECK, top - 0.02),
        (body.shoulder, top + 0.03),
        (body.chest, armpit),
        (body.waist, waist),
        (body.hem, bottom),
    ]
    silhouette.add(*right, *((-x, y) for x, y in reversed(right)))
    if reach := SLEEVES[garment["sleeve"]]:
        outer, inner = (body.shoulder, top + 0.03), (body.chest, armpit + 0.01)
        wrist_outer, wrist_inner = (body.shoulder + 0.16, top + 0.45), (body.shoulder + 0.085, top + 0.48)
        silhouette.add(
            (0, top), outer, _between(outer, wrist_outer, reach), _between(inner, wrist_inner, reach), inner,
            mirrored=True,
        )  # fmt: skip
    else:
        silhouette.add(*_ellipse((body.shoulder + 0.015, top + 0.09), 0.035, 0.075), mirrored=True, cut=True)
    silhouette.add(*_neckline(garment["neckline"], top), cut=True)

    lines = _Mask(canvas)
    if category == "shirt":
        lines.line((0, top), (0, bottom))
        for y in np.arange(top + 0.17, bottom - 0.02, 0.075):
            lines.dot((0.02, y))
        lines.add((NECK, top - 0.02), (NECK + 0.055, top + 0.005), (NECK - 0.005, top + 0.075), mirrored=True)
    elif category == "coat":
        lines.line((-0.05, top), (-0.05, bottom), 0.01)
        for y in np.arange(top + 0.2, min(bottom - 0.02, top + 0.5), 0.1):
            lines.dot((-0.02, y), 0.014)
            lines.dot((0.06, y), 0.014)
        lines.add((-0.3, waist - 0.015), (0.3, waist - 0.015), (0.3, waist + 0.025), (-0.3, waist + 0.025))
    elif category == "dress":
        lines.line((-0.2, waist), (0.2, waist), 0.012)
        for x in (-0.09, 0, 0.09):
            lines.line((x * 0.5, waist), (x * 1.5, bottom), 0.006)
    return _shade(silhouette, lines)


def _draw_lower(garment: Mapping[str, str], canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Returns the silhouette and the brightness of a garment with a waistband."""
    body, category = LOWER[garment["category"]], garment["category"]
    top, bottom = body.top, body.bottoms[garment["length"]]
    silhouette, lines = _Mask(canvas), _Mask(canvas)
    right = [(body.shoulder, top), (body.chest, top + 0.1), (body.waist, top + 0.16), (body.hem, bottom)]
    silhouette.add(*right, *((-x, y) for x, y in reversed(right)))
    lines.add((-0.2, top + 0.025), (0.2, top + 0.025), (0.2, top + 0.037), (-0.2, top + 0.037))
    if category == "trousers":
        silhouette.add((0, top + 0.2), (0.045, bottom + 0.02), (-0.045, bottom + 0.02), cut=True)
        lines.line((0, top), (0, top + 0.2))
    else:
        for x in (-0.11, -0.04, 0.04, 0.11):
            lines.line((x * 0.6, top + 0.06), (x * 1.9, bottom), 0.006)
    return _shade(silhouette, lines)


def _shade(silhouette: _Mask, lines: _Mask) -> tuple[np.ndarray, np.ndarray]:
    """Returns the silhouette and the brightness of each pixel: darker on lines, darkest on the rim."""
    brightness = np.where(lines.array(), 0.6, 1.0)
    return silhouette.array(), np.where(silhouette.rim(), 0.5, brightness)


def _neckline(kind: str, top: float) -> list[Point]:
    """Returns the polygon that a neckline cuts out."""
    left, right = (-NECK, top - 0.03), (NECK, top - 0.03)
    if kind == "square":
        return [left, right, (NECK * 0.95, top + 0.095), (-NECK * 0.95, top + 0.095)]
    if kind == "v-neck":
        return [left, right, (0, top + 0.17)]
    return _ellipse((0, top - 0.02), NECK, 0.08)


def _between(start: Point, end: Point, fraction: float) -> Point:
    return start[0] + fraction * (end[0] - start[0]), start[1] + fraction * (end[1] - start[1])


def _ellipse(center: Point, half_width: float, half_height: float) -> list[Point]:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x, y = center[0] + half_width * np.cos(angles), center[1] + half_height * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _is_second(pattern: str, size: int, angle: float, period: float) -> Bool[np.ndarray, "S S"]:
    """Returns the mask of a pattern's second colour; the period is a fraction of the image's width."""
    if pattern == "plain":
        return np.zeros((size, size), bool)
    y, x = _grid(size)
    u = (np.cos(angle) * x + np.sin(angle) * y) / period % 1
    if pattern == "striped":
        return u < 0.5
    v = (np.cos(angle) * y - np.sin(angle) * x) / period % 1
    if pattern == "checked":
        return (u < 0.25) | (v < 0.25)
    return (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.33**2


@functools.lru_cache(maxsize=4)
def _grid(size: int) -> Float[np.ndarray, "2 S S"]:
    """Returns the distance of each pixel from the top and from the left, in [0, 1]."""
    return np.stack(np.meshgrid(*[np.linspace(0, 1, size)] * 2, indexing="ij"))
