import dataclasses

import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.data.catalogue import (
    PARTS,
    SPLITS_BY,
    Catalogue,
    Sampling,
    Transform,
    choose_images,
    hold_out_validation,
    seeded_split,
)
from gradrev_jax.errors import ConfigError

SCHEMA = AttributeSchema(("a",), (("x", "y"),))


@dataclasses.dataclass(frozen=True)
class BlankImages:
    """Black images with names."""

    names: list

    def __len__(self):
        return len(self.names)

    def name(self, row):
        return self.names[row]

    def digest(self, row):
        return b""

    def read(self, row, transform):
        return np.zeros((transform.size, transform.size, 3), np.uint8)


def catalogue(count=20, **parts):
    parts = {"train": np.arange(count), "validation": np.arange(0), "test": np.arange(0), **parts}
    return Catalogue(
        SCHEMA, BlankImages([f"blank {n}" for n in range(count)]), np.zeros((count, 1), np.int32), parts
    )


@pytest.mark.parametrize("split_by", SPLITS_BY)
def test_validation_is_a_seeded_share_of_train(split_by):
    held = hold_out_validation(catalogue(), 0.25, seed=0, split_by=split_by)
    if split_by == "order":
        assert len(held.parts["validation"]) == 5
    assert sorted(held.rows("train", "validation").tolist()) == list(range(20))
    again = hold_out_validation(catalogue(), 0.25, seed=0, split_by=split_by)
    np.testing.assert_array_equal(held.parts["validation"], again.parts["validation"])
    other = hold_out_validation(catalogue(), 0.25, seed=1, split_by=split_by)
    assert held.parts["validation"].tolist() != other.parts["validation"].tolist()
    assert held.part_labels("train", "validation").shape == (20, 1)


def test_a_validation_part_that_is_there_is_kept():
    own = catalogue(train=np.arange(15), validation=np.arange(15, 20))
    assert hold_out_validation(own, 0.5, seed=0) is own


def test_fractions_out_of_range():
    assert len(hold_out_validation(catalogue(), 0.0, seed=0).parts["validation"]) == 0
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"^`fraction` must lie in \[0, 1\)"):
            hold_out_validation(catalogue(), fraction, seed=0)
    with pytest.raises(ValueError, match="`fraction` 0.9 holds out all 2 training images"):
        hold_out_validation(catalogue(2), 0.9, seed=0, split_by="order")
    for fraction in (0.0, 1.0):
        with pytest.raises(ValueError, match="^`test_fraction` must lie in"):
            seeded_split(list("abcdefghij"), fraction, seed=0)


NAMES = [f"images/{number:04d}.jpg" for number in range(2000)]


@pytest.mark.parametrize("split_by", SPLITS_BY)
def test_seeded_split_is_disjoint_and_repeatable(split_by):
    split = seeded_split(NAMES, 0.2, seed=4, split_by=split_by)
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(2000))
    assert len(split["test"]) == 400 if split_by == "order" else 340 < len(split["test"]) < 460
    again = seeded_split(NAMES, 0.2, seed=4, split_by=split_by)
    np.testing.assert_array_equal(split["test"], again["test"])
    assert seeded_split(NAMES, 0.2, seed=5, split_by=split_by)["test"].tolist() != split["test"].tolist()


def test_no_image_changes_its_part_when_others_come_or_go(rng):
    def part_of(names):
        labels, parts = np.zeros((len(names), 1), np.int32), seeded_split(names, 0.2, 0)
        whole = Catalogue(SCHEMA, BlankImages(names), labels, parts)
        held = hold_out_validation(whole, 0.1, seed=0)
        return {names[row]: part for part, rows in held.parts.items() for row in rows}

    before = part_of(NAMES)
    assert {part: sum(p == part for p in before.values()) for part in before.values()}.keys() == set(PARTS)
    kept = [NAMES[row] for row in rng.permutation(2000)[:1500]]
    after = part_of([*kept, *(f"more/{number}.jpg" for number in range(300))])
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_choices_for_two_purposes_are_independent():
    test = choose_images(NAMES, 0.5, 0, purpose="test", split_by="image")
    validation = choose_images(NAMES, 0.5, 0, purpose="validation", split_by="image")
    assert 0.4 < (test == validation).mean() < 0.6


def test_an_unknown_way_to_split(unchecked):
    with pytest.raises(ValueError, match="^`split_by` must be one of image, order, got 'row'"):
        choose_images(NAMES, 0.5, 0, purpose="test", split_by="row")


def test_a_limit_chooses_rows_with_the_seed():
    chosen = [Sampling(limit=3, seed=seed).choose_rows(9).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] == sorted(set(chosen[0])) != chosen[2]
    assert Sampling(limit=10).choose_rows(9).tolist() == Sampling().choose_rows(9).tolist() == [*range(9)]
    with pytest.raises(ConfigError, match="^`limit` must be at least 1, got 0"):
        Sampling(limit=0)


def test_faulty_catalogues_are_refused():
    with pytest.raises(ValueError, match="two parts"):
        catalogue(test=np.arange(3))
    with pytest.raises(ValueError, match="20 images but 3 rows"):
        dataclasses.replace(catalogue(), labels=np.zeros((3, 1), np.int32))
    with pytest.raises(ValueError, match="outside"):
        dataclasses.replace(catalogue(), labels=np.full((20, 1), 2, np.int32))
    with pytest.raises(ValueError, match="parts must be"):
        dataclasses.replace(catalogue(), parts={"train": np.arange(20)})


def test_transforms_are_those_of_the_paper():
    assert Transform.for_part("train", 224) == Transform(224, 256)
    assert Transform.for_part("validation", 224) == Transform.for_part("test", 224) == Transform(224, 224)
    assert Transform.for_part("train", 96, 104) == Transform(96, 104)
    assert Transform.for_part("validation", 96, 104) == Transform(96, 96)
