"""Makes schemas of placeholder attributes, of the sizes that benchmarks need."""

from collections.abc import Sequence

from gradrev_jax import AttributeSchema

SHOPPING100K_SIZES = (16, 17, 19, 14, 10, 15, 2, 11, 16, 7, 9, 15)  # the number of values of each attribute


def schema_of_sizes(sizes: Sequence[int]) -> AttributeSchema:
    """Makes a schema of placeholder attributes with the given numbers of values.

    Example:
      >>> schema_of_sizes((2, 1)).values
      (('value 0', 'value 1'), ('value 0',))
    """
    return AttributeSchema(
        tuple(f"attribute {n}" for n in range(len(sizes))),
        tuple(tuple(f"value {v}" for v in range(size)) for size in sizes),
    )
