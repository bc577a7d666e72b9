"""The attributes of a catalogue: their names, their values, and how labels are written."""

import dataclasses
import difflib
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from gradrev_jax.core.arguments import check_integers, is_traced, whole_number

NOT_LABELLED = -1


@dataclasses.dataclass(frozen=True)
class AttributeSchema:
    """Names of N attributes and of the J values they take together.

    Attribute n owns the contiguous slice ``offsets[n] : offsets[n] + sizes[n]`` of the J values. A schema
    is immutable and hashable, so it can be a static argument of a jitted function or a Flax field.

    Args:
      names: N attribute names. Lists, here and of values, become tuples.
      values: for each attribute, the names of its values (one value is allowed, none is not).

    Raises:
      ValueError: no attribute, an attribute without values, a name that stands twice, or a string where a
        list of names is meant.

    Example:
      >>> schema = AttributeSchema(("color", "sleeve"), (("blue", "red"), ("long", "none", "short")))
      >>> schema.num_attributes, schema.num_values, schema.sizes, schema.offsets
      (2, 5, (2, 3), (0, 2))
      >>> schema.index("sleeve", "short")
      4
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for argument, given in (("names", self.names), ("values", self.values)):
            if isinstance(given, str):
                raise ValueError(f"{argument} must be a sequence, got the string {given!r}")
        for name, values in zip(self.names, self.values, strict=False):
            if isinstance(values, str):
                raise ValueError(
                    f"values of attribute {name!r} must be a sequence of names, got the string {values!r}"
                )
        # Tuples, because a schema of lists could not be hashed.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "values", tuple(tuple(values) for values in self.values))
        if not self.names:
            raise ValueError("a schema needs at least one attribute")
        if len(self.names) != len(self.values):
            raise ValueError(f"{len(self.names)} attribute names but {len(self.values)} lists of values")
        if repeated := _repeated(self.names):
            raise ValueError(f"attribute names must be unique; {repeated} stand(s) twice")
        for name, values in zip(self.names, self.values, strict=True):
            if not values:
                raise ValueError(f"attribute {name!r} has no values")
            if repeated := _repeated(values):
                raise ValueError(f"values of attribute {name!r} must be unique; {repeated} stand(s) twice")

    @property
    def num_attributes(self) -> int:
        """N, the number of attributes."""
        return len(self.names)

    @property
    def num_values(self) -> int:
        """J, the number of values of all attributes together."""
        return sum(self.sizes)

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each attribute, (N,)."""
        return tuple(len(values) for values in self.values)

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of each attribute's first value among the J, (N,)."""
        return tuple(int(offset) for offset in np.cumsum((0, *self.sizes[:-1])))

    @functools.cached_property
    def attribute_of(self) -> np.ndarray:
        """Attribute that each of the J values belongs to, int32 [J]."""
        return np.repeat(np.arange(self.num_attributes, dtype=np.int32), self.sizes)

    @functools.cached_property
    def slice_index(self) -> np.ndarray:
        """Position of every attribute's values among the J, int32 [N, max size].

        Rows of attributes with fewer values repeat their last one, so a maximum over a row is right
        without a mask.
        """
        step = np.minimum(np.arange(max(self.sizes)), np.asarray(self.sizes)[:, None] - 1)
        return (np.asarray(self.offsets)[:, None] + step).astype(np.int32)

    @functools.cached_property
    def membership(self) -> np.ndarray:
        """Which attribute (column) each value (row) belongs to, float32 0/1 [J, N]."""
        return (self.attribute_of[:, None] == np.arange(self.num_attributes)).astype(np.float32)

    def index(self, attribute: str, value: str) -> int:
        """Index of a value among the J.

        Raises:
          ValueError: an unknown attribute or value; the message has the nearest name.
        """
        n = _position(self.names, attribute, "attribute")
        return self.offsets[n] + _position(self.values[n], value, f"value of attribute {attribute!r}")

    def value_name(self, index: int) -> str:
        """Word for one of the J values, as ``"red"``.

        Raises:
          ValueError: an index outside [0, J).
        """
        index = whole_number(index, "index")
        if not 0 <= index < self.num_values:
            raise ValueError(f"index must lie in [0, {self.num_values}), got {index}")
        n = int(self.attribute_of[index])
        return self.values[n][index - self.offsets[n]]

    def one_hot(self, labels: Int[Array | np.ndarray, "*batch N"]) -> Float[Array, "*batch J"]:
        """Labels as one 0/1 row over the J values; a missing label (-1) is all zeros in its slice.

        Raises:
          ValueError: as ``checked_labels``; of traced labels, what lies outside of its attribute is missing.

        Example:
          >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
          >>> schema.one_hot(np.array([1, -1])).tolist()
          [0.0, 1.0, 0.0, 0.0]
        """
        labels = jnp.asarray(checked_labels(labels, self))
        position = np.arange(self.num_values, dtype=np.int32) - np.asarray(self.offsets)[self.attribute_of]
        return (labels[..., self.attribute_of] == position).astype(jnp.float32)

    def labels(self, one_hot: Real[Array | np.ndarray, "*batch J"]) -> Int[Array, "*batch N"]:
        """Labels of 0/1 rows over the J values; a slice without a one becomes -1.

        Raises:
          ValueError: rows of another length; and of rows that are not traced, numbers other than 0 and 1, or
            several ones in a slice. Traced rows give the first of their greatest.

        Example:
          >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
          >>> schema.labels(np.array([0.0, 1.0, 0.0, 0.0])).tolist()
          [1, -1]
        """
        self._check_one_hot(one_hot)
        per_attribute = jnp.asarray(one_hot)[..., self.slice_index]
        found = per_attribute.max(axis=-1) > 0
        return jnp.where(found, per_attribute.argmax(axis=-1), NOT_LABELLED).astype(jnp.int32)

    def words(self, labels: Int[Array | np.ndarray, " N"]) -> tuple[str, ...]:
        """Word for each label of one row, as ``("red", "not labelled")``.

        Raises:
          ValueError: as ``check_labels``.
        """
        check_labels(labels, self)
        return tuple(
            "not labelled" if label == NOT_LABELLED else values[label]
            for label, values in zip(np.asarray(labels), self.values, strict=True)
        )

    def describe(self, labels: Int[Array | np.ndarray, " N"]) -> str:
        """One label row in words, as ``"color: red, sleeve: not labelled"``."""
        return ", ".join(f"{name}: {word}" for name, word in zip(self.names, self.words(labels), strict=True))

    def _check_one_hot(self, one_hot: Real[Array | np.ndarray, "*batch J"]) -> None:
        if one_hot.shape[-1:] != (self.num_values,):
            raise ValueError(f"one_hot needs {self.num_values} columns (values), got {one_hot.shape}")
        if is_traced(one_hot):
            return
        rows = np.asarray(one_hot, np.float32).reshape(-1, self.num_values)
        if other := np.argwhere((rows != 0) & (rows != 1)).tolist():
            row, column = other[0]
            raise ValueError(f"one_hot holds 0 and 1 only, got {rows[row, column]} in row {row}")
        if several := np.argwhere(rows @ self.membership > 1).tolist():
            row, n = several[0]
            raise ValueError(
                f"one_hot has several values of attribute {self.names[n]!r} in row {row}; one at most"
            )


def _repeated(names: tuple[str, ...]) -> str:
    """Names that stand more than once, quoted and comma-separated; empty where there are none."""
    return ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))


def _position(names: tuple[str, ...], name: str, what: str) -> int:
    """Position of a name, or a ValueError with the nearest one."""
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    raise ValueError(f"no {what} is called {name!r}; {hint}")


def check_labels(
    labels: Int[jax.Array | np.ndarray, "*batch N"], schema: AttributeSchema, argument: str = "labels"
) -> None:
    """Raises unless concrete labels have N columns and every value lies in [-1, size of its attribute).

    Args:
      labels: [..., N].
      schema: the attributes.
      argument: what the labels are called, for the message.

    Raises:
      ValueError: with the shape or dtype, or with the first row and attribute that is out of range.

    Example:
      >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
      >>> check_labels(np.array([[0, 1], [2, -1]]), schema)
      Traceback (most recent call last):
      ValueError: labels: label 2 of row 1 is outside [-1, 2) of attribute 'color'
    """
    array = np.asarray(labels)
    _check_form(array, schema, argument)
    rows = array.reshape(-1, schema.num_attributes)
    bad = np.argwhere((rows < NOT_LABELLED) | (rows >= np.asarray(schema.sizes)))
    if bad.size:
        row, n = bad[0]
        raise ValueError(
            f"{argument}: label {rows[row, n]} of row {row} is outside [-1, {schema.sizes[n]}) "
            f"of attribute {schema.names[n]!r}"
        )


def checked_labels(
    labels: Int[Array | np.ndarray, "*batch N"], schema: AttributeSchema, argument: str = "labels"
) -> Int[Array | np.ndarray, "*batch N"]:
    """Returns labels of which each is a value of its attribute or -1.

    Concrete labels are checked. Traced ones, as in a jitted step, have no values yet: there, whatever lies
    outside [0, size of its attribute) becomes -1, not labelled.

    Args:
      labels: [..., N].
      schema: the attributes.
      argument: what the labels are called, for the message.

    Raises:
      ValueError: as ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> jax.jit(lambda labels: checked_labels(labels, schema))(np.array([[1], [2], [-100]])).tolist()
      [[1], [-1], [-1]]
    """
    if not is_traced(labels):
        check_labels(labels, schema, argument)
        return labels
    _check_form(labels, schema, argument)
    known = (labels >= 0) & (labels < np.asarray(schema.sizes))
    # Signed first: unsigned labels have no -1.
    return jnp.where(known, labels.astype(jnp.int32), NOT_LABELLED)


def _check_form(labels: Array | np.ndarray, schema: AttributeSchema, argument: str) -> None:
    if labels.shape[-1:] != (schema.num_attributes,):
        raise ValueError(f"{argument} need {schema.num_attributes} columns (attributes), got {labels.shape}")
    check_integers(labels, argument)
