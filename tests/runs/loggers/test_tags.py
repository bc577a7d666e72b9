from tensorboardX import summary

from gradrev_jax.runs.loggers.tags import scalar_tags


def test_no_two_names_share_a_tensorboard_tag():
    names = (
        "color",
        "neck_line",
        "neck line",
        "size (EU)",
        "size [EU]",
        "a.b",
        "a/b",
        "",
        "领口",
        "x.20.y",
        "x y",
    )
    record = {"per_attribute": dict.fromkeys(names, 0.5) | {"a": {"b": 0.5}}, "stage": "encoder"}
    tags = [summary.scalar(tag, 1.0).value[0].tag for tag in scalar_tags(record)]
    assert len(set(tags)) == len(names) + 1
    assert tags[:2] == ["per_attribute/color", "per_attribute/neck_line"]
    assert tags[3] == "per_attribute/size.20..28.EU.29."
