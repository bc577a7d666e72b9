"""What is asked to be different about an item."""

from typing import NamedTuple


class Change(NamedTuple):
    """Represents one change of an item's attribute.

    Attributes:
      attribute: the name of the attribute.
      to: the value that it is to have; None: whatever it has is to be removed.
      strength: the factor of the edit, 1 as it was trained.
    """

    attribute: str
    to: str | None
    strength: float = 1.0
