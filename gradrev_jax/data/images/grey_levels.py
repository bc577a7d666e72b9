"""Scales greys of more than 8 bits to 8 bits if their meaning is clear."""

import numpy as np
from jaxtyping import Shaped, UInt8

SIXTEEN_BITS = 65535
SAVE = "save it with 8 bits per pixel"
TOLERANCE = (
    0.01  # the part of the scale by which resampled floating-point greys may leave it; they are clipped
)


def eight_bit_levels(
    grey: Shaped[np.ndarray, "H W"], full_scale: int = SIXTEEN_BITS
) -> UInt8[np.ndarray, "H W"]:
    """Scales greys to 0 to 255.

    Integers are assumed to reach from 0 (black) to ``full_scale`` (white). Floating-point greys are assumed
    to reach from 0 to 1 if none is greater, otherwise from 0 to 255.

    Args:
      grey: integers or floating-point numbers.
      full_scale: the integer that means white.

    Raises:
      ValueError: the meaning of the greys is unclear: they leave that range, or all of them would become
        black though some are not 0.

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
        return _scale_floats(grey, low, high)
    if low < 0 or high > full_scale:
        raise ValueError(
            f"its greys reach from {low:,} to {high:,}, and only 0 to {full_scale:,} has a clear meaning; "
            f"{SAVE}"
        )
    levels = (grey.astype(np.int64) * 255 // full_scale).astype(np.uint8)
    if high and not levels.any():
        raise ValueError(
            f"its greys reach only {high:,} of {full_scale:,}, which is black throughout; {SAVE}"
        )
    return levels


def _scale_floats(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scales floating-point greys from ``low`` to ``high``."""
    if not np.isfinite(grey).all():
        raise ValueError(f"its floating-point greys hold NaN or infinity; {SAVE}")
    scale = 1 if high <= 1 + TOLERANCE else 255
    within = -TOLERANCE * scale <= low and high <= (1 + TOLERANCE) * scale
    if not within or 1 + TOLERANCE < high < 2:  # of 255, 2 is black too
        raise ValueError(
            f"its floating-point greys reach from {low:.4g} to {high:.4g}, and only 0 to 1, or 0 to 255, "
            f"has a clear meaning; {SAVE}"
        )
    levels = np.clip(grey, 0, scale)
    # Levels are truncated, as by Pillow; fractions of 1 are rounded, which restores their original levels.
    levels = (levels if scale == 255 else np.rint(255 * levels)).astype(np.uint8)
    if high > 0 and not levels.any():
        raise ValueError(f"its floating-point greys reach only {high:.4g}, which is black throughout; {SAVE}")
    return levels
