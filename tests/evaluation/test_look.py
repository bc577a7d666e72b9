import pytest

from gradrev_jax.core.representations import make_space
from gradrev_jax.errors import DataError
from gradrev_jax.evaluation import look as look_module
from gradrev_jax.evaluation.look import LOOKS, choose_look
from tests.encoded_images import material, opened, slow_hit_rate

HYBRID = {"representation": "hybrid", "edit": "replace"}


def choose(made, **fields):
    return choose_look(opened(made.held_out.labels, **fields), made, progress=False)


def test_from_0_to_1_by_tenths():
    assert [f"{look:g}" for look in LOOKS] == [f"{number / 10:g}" for number in range(11)]


@pytest.fixture
def looks(monkeypatch):
    """Fewer looks than there are, for each takes a search."""
    monkeypatch.setattr(look_module, "LOOKS", (0.0, 0.02, 0.6, 1.0))
    return look_module.LOOKS


@pytest.mark.long
@pytest.mark.parametrize("exclude", [False, True])
def test_the_most_that_costs_no_match_is_chosen(rng, looks, exclude):
    made = material(rng, held_out=40)
    fields = {"look": "validation", "strength": "1", "exclude_query": exclude}
    found = choose(made, **HYBRID, **fields)
    expected = []
    for look in looks:
        space = make_space("hybrid", made._replace(look=look))
        expected.append(slow_hit_rate(space, made.held_out.labels, "none", "replace", 1.0, exclude=exclude))
    assert list(found.hit_rates.values()) == pytest.approx(expected)
    best = max(look for look, rate in zip(looks, expected, strict=True) if rate >= expected[0])
    assert found.value == best
    assert found.value == 0.02, "neither none nor all"


@pytest.mark.long
def test_the_way_is_the_one_that_serves_best_without_look(rng, looks):
    made = material(rng, held_out=40)
    found = choose(made, representation="hybrid", look="validation", edit="validation")
    space = make_space("hybrid", made._replace(look=0.0))
    rates = {
        (edit, strength): slow_hit_rate(space, made.held_out.labels, "none", edit, strength)
        for edit in ("add", "replace")
        for strength in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
    }
    assert found.hit_rates["0"] == pytest.approx(max(rates.values()))
    assert len(set(rates.values())) > 1


def test_a_look_that_is_given_is_kept_and_others_have_none(rng):
    made = material(rng, held_out=0)
    assert choose(made, **HYBRID, look="0.25") == (0.25, {})
    for representation in ("posterior", "features"):
        assert choose(made, representation=representation, look="validation") == (None, {})


def test_without_a_query_there_is_nothing_to_choose_by(rng):
    made = material(rng, held_out=0)
    with pytest.raises(DataError, match="protocol.look=validation has no query to choose by"):
        choose(made, **HYBRID, look="validation", strength="1")
