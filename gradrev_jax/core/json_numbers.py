"""Numbers as JSON has them."""

import numpy as np


def json_number(value: float | np.floating) -> float | None:
    """Returns a number, or None in place of NaN and of infinities, which JSON does not have.

    Args:
      value: the number.

    Example:
      >>> json_number(0.5), json_number(float("nan"))
      (0.5, None)
    """
    return float(value) if np.isfinite(value) else None
