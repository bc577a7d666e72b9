from gradrev_jax.evaluation.comparison.paper import PAPER, SHOPPING100K_SIZES


def test_the_sizes_are_those_of_shopping100k():
    assert (len(SHOPPING100K_SIZES), sum(SHOPPING100K_SIZES)) == (12, 151)


def test_the_numbers_hang_together():
    for system, numbers in PAPER.items():
        rates = [float(numbers[name].rstrip("†")) for name in numbers if name.startswith("hit_rate")]
        assert rates == sorted(rates), f"{system}: more neighbours find no less"
        if "ndcg@30" in numbers:
            # NDCG is convex in relevance, so these only come near: 1 of 12 attributes is the changed one.
            mean = (float(numbers["ndcg_target@30"]) + 11 * float(numbers["ndcg_others@30"])) / 12
            assert abs(mean - float(numbers["ndcg@30"])) < 2
    ours, ablation = PAPER["N classifiers"], PAPER["without reversal"]
    assert all(float(ours[name]) > float(ablation[name]) for name in ablation)
    marked = [(system, name) for system in PAPER for name in PAPER[system] if "†" in PAPER[system][name]]
    assert marked == [("AMNet", "hit_rate@50")]
