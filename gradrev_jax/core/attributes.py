"""The attributes of a catalogue: their names, their values, and the form of their labels."""

import dataclasses
import functools
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from gradrev_jax.core.arguments import check_integers, index_of_name, is_traced, repeated_names, whole_number

NOT_LABELLED = -1


@dataclasses.dataclass(frozen=True)
class AttributeSchema:
    """The names of N attributes and of their J values in total.

    Attribute n owns the contiguous slice ``offsets[n] : offsets[n] + sizes[n]`` of the J values. A schema
    is immutable and hashable, so it can be a static argument of a jitted function or a Flax field.

    Args:
      names: the N attribute names. Lists of names or values become tuples.
      values: the names of each attribute's values, at least one per attribute.

    Raises:
      ValueError: no attribute, one without values, a name that occurs twice, or a string for a list of names.

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
        for argument, names in (("names", self.names), ("values", self.values)):
            if isinstance(names, str):
                raise ValueError(f"{argument} must be a sequence, got the string {names!r}")
        for name, values in zip(self.names, self.values, strict=False):
            if isinstance(values, str):
                raise ValueError(
                    f"values of attribute {name!r} must be a sequence of names, got the string {values!r}"
                )
        # Tuples, because lists have no hash.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "values", tuple(tuple(values) for values in self.values))
        if not self.names:
            raise ValueError("a schema needs at least one attribute")
        if len(self.names) != len(self.values):
            raise ValueError(f"{len(self.names)} attribute names but {len(self.values)} lists of values")
        if repeated := repeated_names(self.names):
            raise ValueError(f"attribute names must be unique; repeated: {repeated}")
        for name, values in zip(self.names, self.values, strict=True):
            if not values:
                raise ValueError(f"attribute {name!r} has no values")
            if repeated := repeated_names(values):
                raise ValueError(f"values of attribute {name!r} must be unique; repeated: {repeated}")

    @property
    def num_attributes(self) -> int:
        """N, the number of attributes."""
        return len(self.names)

    @property
    def num_values(self) -> int:
        """J, the number of values of all attributes."""
        return sum(self.sizes)

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of values of each attribute, (N,)."""
        return tuple(len(values) for values in self.values)

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """The index of each attribute's first value among the J, (N,)."""
        return tuple(int(offset) for offset in np.cumsum((0, *self.sizes[:-1])))

    @functools.cached_property
    def attribute_of(self) -> np.ndarray:
        """The attribute that each of the J values belongs to, int32 [J]."""
        return np.repeat(np.arange(self.num_attributes, dtype=np.int32), self.sizes)

    @functools.cached_property
    def position_of(self) -> np.ndarray:
        """The position of each of the J values among those of its attribute, int32 [J]."""
        return np.concatenate([np.arange(size, dtype=np.int32) for size in self.sizes])

    @functools.cached_property
    def slice_index(self) -> np.ndarray:
        """The indices of every attribute's values among the J, int32 [N, max size].

        Attributes with fewer values repeat the last, so that a maximum over a row needs no mask.
        """
        step = np.minimum(np.arange(max(self.sizes)), np.asarray(self.sizes)[:, None] - 1)
        return (np.asarray(self.offsets)[:, None] + step).astype(np.int32)

    @functools.cached_property
    def slice_mask(self) -> np.ndarray:
        """The mask of ``slice_index``, False where a row repeats its last value, bool [N, max size]."""
        return np.arange(max(self.sizes)) < np.asarray(self.sizes)[:, None]

    @functools.cached_property
    def membership(self) -> np.ndarray:
        """The mask of the values (rows) of each attribute (columns), float32 0/1 [J, N]."""
        return (self.attribute_of[:, None] == np.arange(self.num_attributes)).astype(np.float32)

    def index(self, attribute: str, value: str) -> int:
        """Returns the index of a value among the J.

        Args:
          attribute: the name of the attribute.
          value: the name of the value.

        Raises:
          ValueError: an unknown attribute or value; the message has the nearest name.
        """
        n = index_of_name(self.names, attribute, "attribute")
        return self.offsets[n] + index_of_name(self.values[n], value, f"value of attribute {attribute!r}")

    def value_name(self, index: int) -> str:
        """Returns the name of one of the J values, for instance ``"red"``.

        Args:
          index: the index of the value among the J.

        Raises:
          ValueError: an index outside [0, J).
        """
        index = whole_number(index, "index")
        if not 0 <= index < self.num_values:
            raise ValueError(f"index must lie in [0, {self.num_values}), got {index}")
        return self.values[self.attribute_of[index]][self.position_of[index]]

    @overload
    def likeliest(self, scores: Real[np.ndarray, "*batch J"]) -> Int[np.ndarray, "*batch N"]: ...

    @overload
    def likeliest(self, scores: Real[Array, "*batch J"]) -> Int[Array, "*batch N"]: ...

    def likeliest(self, scores: Real[Array | np.ndarray, "*batch J"]) -> Int[Array | np.ndarray, "*batch N"]:
        """Returns the value of each attribute with the largest score; ties go to the lower value.

        Args:
          scores: [..., J], for instance logits or probabilities.

        Example:
          >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s",)))
          >>> schema.likeliest(np.array([0.25, 0.75, 1.0])).tolist()
          [1, 0]
        """
        # argmax takes the first maximum, so a last value that is repeated as padding does not win a tie.
        return scores[..., self.slice_index].argmax(axis=-1)

    def one_hot(self, labels: Int[Array | np.ndarray, "*batch N"]) -> Float[Array, "*batch J"]:
        """Converts labels to 0/1 rows over the J values; a missing label (-1) is all zeros in its slice.

        Args:
          labels: [..., N], -1 = not labelled; traced labels outside their attribute count as missing.

        Raises:
          ValueError: as for ``check_labels``.

        Example:
          >>> schema = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))
          >>> schema.one_hot(np.array([1, -1])).tolist()
          [0.0, 1.0, 0.0, 0.0]
        """
        return _one_hot(sanitize_labels(labels, self), self)

    def labels(self, one_hot: Real[Array | np.ndarray, "*batch J"]) -> Int[Array, "*batch N"]:
        """Converts 0/1 rows over the J values to labels; a slice without a one becomes -1.

        Args:
          one_hot: [..., J]. In traced rows, which cannot be checked, the first maximum of a slice wins.

        Raises:
          ValueError: rows of another length; unless traced, numbers but 0 and 1, or several ones in a slice.

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
        """Returns the name of each label of one row, for instance ``("red", "not labelled")``.

        Args:
          labels: [N], -1 = not labelled.

        Raises:
          ValueError: as for ``check_labels``.
        """
        if labels.ndim != 1:
            raise ValueError(f"labels must be those of one row, [{self.num_attributes}], got {labels.shape}")
        check_labels(labels, self)
        return tuple(
            "not labelled" if label == NOT_LABELLED else values[label]
            for label, values in zip(np.asarray(labels), self.values, strict=True)
        )

    def _check_one_hot(self, one_hot: Real[Array | np.ndarray, "*batch J"]) -> None:
        if one_hot.shape[-1:] != (self.num_values,):
            raise ValueError(f"one_hot needs {self.num_values} columns (values), got {one_hot.shape}")
        if is_traced(one_hot):
            return
        rows = np.asarray(one_hot, np.float32).reshape(-1, self.num_values)
        if other := np.argwhere((rows != 0) & (rows != 1)).tolist():
            row, column = other[0]
            raise ValueError(f"one_hot must hold 0 and 1 only, got {rows[row, column]} in row {row}")
        if several := np.argwhere(rows @ self.membership > 1).tolist():
            row, n = several[0]
            raise ValueError(
                f"one_hot has several values of attribute {self.names[n]!r} in row {row}; "
                "at most one is allowed"
            )


@functools.partial(jax.jit, static_argnames="schema", inline=True)
def _one_hot(labels: Int[Array, "*batch N"], schema: AttributeSchema) -> Float[Array, "*batch J"]:
    return (labels[..., schema.attribute_of] == schema.position_of).astype(jnp.float32)


def check_labels(
    labels: Int[jax.Array | np.ndarray, "*batch N"], schema: AttributeSchema, argument: str = "labels"
) -> None:
    """Raises unless labels have N columns and every label lies in [-1, size of its attribute).

    Args:
      labels: [..., N], not traced.
      schema: the attributes.
      argument: the name of the argument, for the message.

    Raises:
      ValueError: another shape or dtype, or a label out of range; the message has the first.

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


def sanitize_labels(
    labels: Int[Array | np.ndarray, "*batch N"], schema: AttributeSchema, argument: str = "labels"
) -> Int[Array | np.ndarray, "*batch N"]:
    """Returns labels each of which is a value of its attribute or -1.

    Concrete labels are checked. Traced labels, as in a jitted step, cannot be: there, every label outside
    [0, size of its attribute) becomes -1, not labelled.

    Args:
      labels: [..., N].
      schema: the attributes.
      argument: the name of the argument, for the message.

    Raises:
      ValueError: as for ``check_labels``.

    Example:
      >>> schema = AttributeSchema(("color",), (("blue", "red"),))
      >>> jax.jit(lambda labels: sanitize_labels(labels, schema))(np.array([[1], [2], [-100]])).tolist()
      [[1], [-1], [-1]]
    """
    if not is_traced(labels):
        check_labels(labels, schema, argument)
        is_unsigned = jnp.issubdtype(labels.dtype, jnp.unsignedinteger)
        return labels.astype(np.int32) if is_unsigned else labels  # of which the largest equals -1
    _check_form(labels, schema, argument)
    known = (labels >= 0) & (labels < np.asarray(schema.sizes))
    return jnp.where(known, labels.astype(jnp.int32), NOT_LABELLED)


def _check_form(labels: Array | np.ndarray, schema: AttributeSchema, argument: str) -> None:
    if labels.shape[-1:] != (schema.num_attributes,):
        raise ValueError(f"{argument} need {schema.num_attributes} columns (attributes), got {labels.shape}")
    check_integers(labels, argument)
