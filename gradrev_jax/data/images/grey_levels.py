"""Scales greys of more than 8 bits to 8, where what they mean is plain."""

import numpy as np
from jaxtyping import Shaped, UInt8

SIXTEEN_BITS = 65535
SAVE = "save it with 8 bits a pixel"
TOLERANCE = 0.01  # of the scale, by which resampled floating-point greys may leave it; they are clipped


def eight_bit_levels(
    grey: Shaped[np.ndarray, "H W"], full_scale: int = SIXTEEN_BITS
) -> UInt8[np.ndarray, "H W"]:
    """Scales greys to 0 to 255.

    Integers are taken to reach from 0 (black) to ``full_scale`` (white). Floating-point greys are taken to
    reach from 0 to 1 where none is greater, and otherwise to 255.

    Args:
      grey: integers or floating-point numbers.
      full_scale: white, of integers.

    Raises:
      ValueError: what the greys mean would be a guess: they leave that range, or all of them would be black
        though they differ from 0.

    Example:
      >>> eight_bit_levels(np.array([[0, 257, 65535]])).tolist()
      [[0, 1, 255]]
      >>> eight_bit_levels(np.array([[0.0, 0.5, 1.0]])).tolist()
      [[0, 128, 255]]
    """
    if not grey.size:
        return grey.astype(np.uint8)
    low, high = grey.min().item(), grey.max().item()
    if grey.dtype.kind == "f":
        return _of_floats(grey, low, high)
    if low < 0 or high > full_scale:
        raise ValueError(
            f"its greys reach from {low:,} to {high:,}, and only 0 to {full_scale:,} has a plain meaning; "
            f"{SAVE}"
        )
    levels = (grey.astype(np.int64) * 255 // full_scale).astype(np.uint8)
    if high and not levels.any():
        raise ValueError(
            f"its greys reach only {high:,} of {full_scale:,}, which is black throughout; {SAVE}"
        )
    return levels


def _of_floats(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scales floating-point greys from ``low`` to ``high``."""
    if not np.isfinite(grey).all():
        raise ValueError(f"its floating-point greys hold NaN or infinity; {SAVE}")
    scale = 1 if high <= 1 + TOLERANCE else 255
    within = -TOLERANCE * scale <= low and high <= (1 + TOLERANCE) * scale
    if not within or 1 + TOLERANCE < high < 2:  # of 255, 2 is black too
        raise ValueError(
            f"its floating-point greys reach from {low:.4g} to {high:.4g}, and only 0 to 1, or 0 to 255, "
            f"has a plain meaning; {SAVE}"
        )
    levels = np.clip(grey, 0, scale)
    # Levels are cut, as Pillow cuts them; the nearest level to a fraction of 1 is the one it was made of.
    levels = (levels if scale == 255 else np.rint(255 * levels)).astype(np.uint8)
    if high > 0 and not levels.any():
        raise ValueError(f"its floating-point greys reach only {high:.4g}, which is black throughout; {SAVE}")
    return levels
