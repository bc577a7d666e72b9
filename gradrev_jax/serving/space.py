"""How images are represented, compared and edited: all of a run but its network, in one file."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.learned_edits import LearnedEdit
from gradrev_jax.core.missing_labels import MISSING, Missing, classes_of, value_positions
from gradrev_jax.core.normalization import NORMALIZATIONS
from gradrev_jax.core.posteriors import posterior_blocks
from gradrev_jax.core.replacement import EDITS, Edit
from gradrev_jax.core.representations import REPRESENTATIONS
from gradrev_jax.core.spaces import Fitted, Images
from gradrev_jax.errors import ConfigError, DataError
from gradrev_jax.evaluation.searching import Way
from gradrev_jax.serving.changes import LARGEST_STRENGTH

KEY, PREFIX = "space", "space/"  # of the metadata, and of the names of the arrays
LOOK, LARGEST_LOOK = "look", 100.0
LARGEST_NUMBER = 1e30  # of a space that is read: squares of products stay finite
# The errors of what is not as it should be.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
REQUIRED = ("memory", "absent", "temperatures")


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Represents a fitted representation, and how what it describes is compared and edited.

    Attributes:
      schema: the attributes.
      missing: what became of missing labels in training.
      representation: the name of the representation.
      fitted: what it keeps; where it has a look, the look's weight is 1.
      way: how images are compared and edited.
      look: the weight of the look that serves best; None: there is none.
      temperatures: the temperature of each attribute's classifier, [N].
    """

    schema: AttributeSchema
    missing: Missing
    representation: str
    fitted: Fitted
    way: Way
    look: float | None
    temperatures: Float[np.ndarray, " N"]

    @property
    def edit(self) -> Edit:
        """The edit of an attribute's block, which is by prototypes: ``check_served`` has seen to it."""
        assert not isinstance(self.way.edit, LearnedEdit), "a learned edit is not served"
        return self.way.edit

    def represent(self, images: Images) -> Float[np.ndarray, "M P w"]:
        """Computes the blocks of images, with a look of weight 1.

        Args:
          images: the encoded images, whose labels do not matter.
        """
        return np.asarray(self._represent(images.features, images.own_logits, images.embeddings), np.float32)

    @functools.cached_property
    def _represent(self) -> Callable[[Any, Any, Any], Any]:
        """The representation as one compiled program, since its operations one by one take long."""
        represent, nothing = REPRESENTATIONS[self.representation].represent, np.zeros((0, 0), int)

        def of_arrays(features: Any, own_logits: Any, embeddings: Any) -> Any:
            images = Images(features, own_logits, embeddings, labels=nothing)
            return represent(images, self.fitted, self.schema, self.missing)

        return jax.jit(of_arrays)

    def probabilities(self, own_logits: Float[np.ndarray, "M C"]) -> Float[np.ndarray, "M J"]:
        """Computes the probability of each value, by its attribute's classifier, calibrated.

        Where being unlabelled is a class, those of an attribute's values sum to less than 1.

        Args:
          own_logits: see ``Images``.
        """
        classes = classes_of(self.schema, self.missing)
        blocks = np.asarray(posterior_blocks(own_logits, classes, self.temperatures))
        of_classes = blocks[:, classes.attribute_of, classes.position_of] ** 2
        return of_classes[:, value_positions(self.schema, self.missing)]

    def rest(self, look: float | None) -> float:
        """Returns the factor of the look's weight, by which a gallery's look of weight 1 is compared.

        Args:
          look: the weight of the look; None: the one that serves best.

        Raises:
          ConfigError: there is no look, or the weight is out of range.
        """
        if look is None:
            return 1.0 if self.look is None else self.look
        if self.look is None:
            raise ConfigError("the run compares no looks, so `look` cannot be given; leave it out")
        if not 0 <= look <= LARGEST_LOOK:
            raise ConfigError(f"look must lie between 0 and {LARGEST_LOOK:g}, got {look}")
        return float(look)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays to be saved, by name."""
        kept = {name: np.asarray(array) for name, array in self.fitted.arrays.items()}
        named = {f"arrays/{name}": array for name, array in kept.items()}
        if self.way.weights is not None:
            named["weights"] = np.asarray(self.way.weights)
        return {
            PREFIX + name: np.ascontiguousarray(array)
            for name, array in {
                "memory": np.asarray(self.fitted.memory),
                "absent": np.asarray(self.fitted.absent),
                "temperatures": np.asarray(self.temperatures),
                **named,
            }.items()
        }

    def metadata(self) -> dict[str, str]:
        """Returns the settings that are saved besides the arrays."""
        about = {
            "attributes": dict(zip(self.schema.names, map(list, self.schema.values), strict=True)),
            "missing": self.missing,
            "representation": self.representation,
            "normalize": self.way.normalize,
            "edit": self.edit,
            "strength": self.way.strength,
            LOOK: self.look,
        }
        return {KEY: json.dumps(about, ensure_ascii=False)}


def with_full_look(fitted: Fitted) -> Fitted:
    """Returns a fitted representation with a look of weight 1, where it has a look."""
    if LOOK not in fitted.arrays:
        return fitted
    return fitted._replace(arrays={**fitted.arrays, LOOK: np.asarray(1, np.float32)})


def save_space(space: SearchSpace, path: pathlib.Path) -> None:
    """Writes a space to a file of the format safetensors, which nothing is executed from.

    Args:
      space: the space.
      path: the path of the file, in a folder that is being made.
    """
    path.write_bytes(safetensors.numpy.save(space.arrays(), metadata=space.metadata()))


def open_space(path: str | os.PathLike[str]) -> SearchSpace:
    """Reads a space from a file that holds one, alone or besides other arrays.

    Args:
      path: the path of the file.

    Raises:
      DataError: there is none, or it is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118
            arrays = {name.removeprefix(PREFIX): np.asarray(file.get_tensor(name)) for name in names}
        return _make(json.loads(metadata[KEY]), arrays)
    except (OSError, safetensors.SafetensorError, *UNREADABLE) as error:
        raise DataError(
            f"{os.fspath(path)} holds no search space that can be read ({error}); make it again"
        ) from error


def _make(about: Any, arrays: dict[str, np.ndarray]) -> SearchSpace:
    """Makes a space of what a file holds.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: something is missing, or does not fit.
    """
    schema = AttributeSchema(tuple(about["attributes"]), tuple(map(tuple, about["attributes"].values())))
    choices = (
        ("missing", MISSING),
        ("representation", REPRESENTATIONS),
        ("normalize", NORMALIZATIONS),
        ("edit", EDITS),
    )
    for name, known in choices:
        if about[name] not in known:
            raise ValueError(f"{name} is {about[name]!r}")
    memory, absent, temperatures = (arrays[name] for name in REQUIRED)
    num_values, n = schema.num_values, schema.num_attributes
    if (
        memory.ndim != 3
        or len(memory) != num_values
        or memory.shape[1] < n
        or absent.shape != (n, memory.shape[2])
        or temperatures.shape != (n,)
    ):
        raise ValueError(f"shapes disagree: {memory.shape}, {absent.shape} and {temperatures.shape}")
    weights = arrays.get("weights")
    if weights is not None and weights.shape != memory.shape[1:2]:
        raise ValueError(f"weights are {weights.shape}")
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not array.size:
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
        if not (np.abs(array) <= LARGEST_NUMBER).all():
            raise ValueError(f"not all numbers are finite in {name}, and of a size to compute with")
    kept = {name.removeprefix("arrays/"): x for name, x in arrays.items() if name.startswith("arrays/")}
    look = None if about[LOOK] is None else float(about[LOOK])
    way = Way(about["normalize"], about["edit"], float(about["strength"]), weights)
    if not abs(way.strength) <= LARGEST_STRENGTH or not 0 <= (look or 0.0) <= LARGEST_LOOK:
        raise ValueError(f"strength and look are {way.strength} and {look}")
    if (temperatures <= 0).any() or (weights is not None and ((weights < 0).any() or not weights.any())):
        raise ValueError("temperatures or weights are not above 0")
    fitted = Fitted(memory, absent, kept)
    return SearchSpace(schema, about["missing"], about["representation"], fitted, way, look, temperatures)
