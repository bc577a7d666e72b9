import dataclasses

import numpy as np
import pytest

from gradrev_jax.attributes import AttributeSchema
from gradrev_jax.data.catalogue import Catalogue, Transform, hold_out_validation, seeded_split

SCHEMA = AttributeSchema(("a",), (("x", "y"),))


@dataclasses.dataclass(frozen=True)
class Blank:
    """Images of nothing."""

    count: int

    def __len__(self):
        return self.count

    def name(self, row):
        return f"blank {row}"

    def digest(self, row):
        return bytes([row])

    def read(self, row, transform):
        return np.zeros((transform.size, transform.size, 3), np.uint8)


def catalogue(count=20, **parts):
    parts = {"train": np.arange(count), "validation": np.arange(0), "test": np.arange(0), **parts}
    return Catalogue(SCHEMA, Blank(count), np.zeros((count, 1), np.int32), parts)


def test_validation_is_a_seeded_share_of_train():
    held = hold_out_validation(catalogue(), 0.25, seed=0)
    assert len(held.parts["validation"]) == 5
    assert sorted(held.rows("train", "validation").tolist()) == list(range(20))
    again = hold_out_validation(catalogue(), 0.25, seed=0)
    np.testing.assert_array_equal(held.parts["validation"], again.parts["validation"])
    other = hold_out_validation(catalogue(), 0.25, seed=1)
    assert held.parts["validation"].tolist() != other.parts["validation"].tolist()
    assert held.part_labels("train", "validation").shape == (20, 1)


def test_a_validation_part_of_the_catalogues_own_is_kept():
    own = catalogue(train=np.arange(15), validation=np.arange(15, 20))
    assert hold_out_validation(own, 0.5, seed=0) is own


def test_fractions_out_of_range():
    assert len(hold_out_validation(catalogue(), 0.0, seed=0).parts["validation"]) == 0
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"train.validation_fraction must lie in \[0, 1\)"):
            hold_out_validation(catalogue(), fraction, seed=0)
    with pytest.raises(ValueError, match="leaves none of 2 training images"):
        hold_out_validation(catalogue(2), 0.9, seed=0)
    for fraction in (0.0, 1.0):
        with pytest.raises(ValueError, match="data.test_fraction"):
            seeded_split(10, fraction, seed=0)


def test_seeded_split_is_disjoint_and_repeatable():
    split = seeded_split(50, 0.2, seed=4)
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(50))
    assert len(split["test"]) == 10
    np.testing.assert_array_equal(split["test"], seeded_split(50, 0.2, seed=4)["test"])


def test_what_is_no_catalogue():
    with pytest.raises(ValueError, match="two parts"):
        catalogue(test=np.arange(3))
    with pytest.raises(ValueError, match="20 images but 3 rows"):
        dataclasses.replace(catalogue(), labels=np.zeros((3, 1), np.int32))
    with pytest.raises(ValueError, match="outside"):
        dataclasses.replace(catalogue(), labels=np.full((20, 1), 2, np.int32))
    with pytest.raises(ValueError, match="parts must be"):
        dataclasses.replace(catalogue(), parts={"train": np.arange(20)})


def test_the_papers_transforms():
    assert Transform.for_part("train", 224) == Transform(224, 256)
    assert Transform.for_part("validation", 224) == Transform.for_part("test", 224) == Transform(224, 224)
    assert Transform.for_part("train", 96, 104) == Transform(96, 104)
    assert Transform.for_part("validation", 96, 104) == Transform(96, 96)
