import json
import os

import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.errors import WorkdirError
from gradrev_jax.runs import workdir

CONFIG = {
    "seed": 0,
    "data": {"root": "a", "attributes": ("x", "y")},
    "train": {"learning_rate": 1e-4, "epochs": 3, "max_steps": None},
    "protocol": {"ks": (1, 5)},
}
SCHEMA = AttributeSchema(("color", "size"), (("blue", "red"), ("s", "m")))


def changed(section, **fields):
    return {**CONFIG, section: {**CONFIG[section], **fields}}


def test_the_same_config_may_go_on(tmp_path):
    for _ in range(2):
        workdir.claim(tmp_path / "run", CONFIG)
    assert workdir.read_json(tmp_path / "run" / "config.json")["data"]["attributes"] == ["x", "y"]


def test_another_config_is_refused_with_every_field_that_differs(tmp_path):
    workdir.claim(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_text()
    other = {**changed("train", learning_rate=0.1, momentum=0.9), "seed": 1}
    with pytest.raises(WorkdirError) as error:
        workdir.claim(tmp_path, other)
    message = str(error.value)
    assert "train.learning_rate: 0.0001 there, 0.1 now" in message
    assert "train.momentum: null there, 0.9 now" in message
    assert "seed: 0 there, 1 now" in message
    assert "another --workdir" in message
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize(
    "config",
    [
        changed("train", epochs=9),
        changed("train", max_steps=4),
        changed("data", root="b"),
        changed("protocol", ks=(1,)),
    ],
)
def test_fields_that_never_change_a_step_are_free(tmp_path, config):
    workdir.claim(tmp_path, CONFIG)
    workdir.claim(tmp_path, config)
    assert workdir.read_json(tmp_path / "config.json") == json.loads(json.dumps(config))


def test_schema_is_kept_and_a_changed_catalogue_refused(tmp_path):
    workdir.claim_schema(tmp_path, SCHEMA)
    workdir.claim_schema(tmp_path, SCHEMA)
    assert workdir.read_schema(tmp_path) == SCHEMA
    grown = AttributeSchema(SCHEMA.names, (("blue", "green", "red"), ("s", "m")))
    with pytest.raises(WorkdirError, match=r"\(new: color: green\); restore the catalogue"):
        workdir.claim_schema(tmp_path, grown)
    with pytest.raises(WorkdirError, match=r"\(new: color: green; gone: size: s, size: m\)"):
        workdir.check_schema(tmp_path, AttributeSchema(("color",), (("blue", "green", "red"),)))
    turned = AttributeSchema(SCHEMA.names[::-1], SCHEMA.values[::-1])
    with pytest.raises(WorkdirError, match=r"\(they come in another order\)"):
        workdir.check_schema(tmp_path, turned)


def test_a_field_that_had_another_name_is_read_by_that_it_has_now(tmp_path):
    """Runs of before hid labels by ``data.missing``, which is now the name of something else."""
    former = {"seed": 0, "data": {"missing": 0.1}}
    workdir.write_json(tmp_path / "config.json", former)
    data = workdir.read_config(tmp_path)["data"]
    assert (data["missing_fraction"], data["missing"]) == (0.1, "ignore")
    earlier = workdir.earlier_values(tmp_path)
    assert earlier["data.missing"] == "ignore"
    assert "data.missing_fraction" not in earlier
    now = {"missing": "ignore", "missing_fraction": 0.1}
    workdir.check_claim(tmp_path, {"seed": 0, "data": now})
    with pytest.raises(WorkdirError, match="data.missing_fraction: 0.1 there, 0.2 now\n"):
        workdir.check_claim(tmp_path, {"seed": 0, "data": {**now, "missing_fraction": 0.2}})
    with pytest.raises(WorkdirError, match='data.missing: "ignore" there, "value" now\n'):
        workdir.check_claim(tmp_path, {"seed": 0, "data": {**now, "missing": "value"}})
    assert workdir.read_json(tmp_path / "config.json") == former
    for given in (now, {"missing": "value", "missing_fraction": 0.0}):
        workdir.write_json(tmp_path / "config.json", {"seed": 0, "data": given})
        found = workdir.read_config(tmp_path)["data"]
        assert {name: found[name] for name in given} == given


@pytest.mark.parametrize("read", [workdir.read_config, workdir.earlier_values])
def test_a_config_that_is_no_object_is_named(tmp_path, read):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(WorkdirError, match="config.json is no config; restore it from a copy"):
        read(tmp_path)


def test_a_run_from_before_a_field_has_what_it_stood_for(tmp_path):
    """Runs of version 0.1.0 chose their parts by the order of the images, and must go on doing so."""
    workdir.write_json(tmp_path / "config.json", {"seed": 0, "data": {"root": "x"}})
    data = workdir.read_config(tmp_path)["data"]
    assert (data["root"], data["split_by"], data["accept_changes"]) == ("x", "order", False)
    workdir.check_claim(tmp_path, {"seed": 0, "data": {"root": "x", "split_by": "order"}})
    assert workdir.earlier_values(tmp_path)["data.split_by"] == "order"
    assert workdir.earlier_values(tmp_path / "none") == {}
    workdir.write_json(tmp_path / "other" / "config.json", {"data": {"split_by": "image"}})
    assert "data.split_by" not in workdir.earlier_values(tmp_path / "other")
    with pytest.raises(WorkdirError, match='data.split_by: "order" there, "image" now'):
        workdir.check_claim(tmp_path, {"seed": 0, "data": {"root": "x", "split_by": "image"}})


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(WorkdirError, match=r"is not a run of train.py: it has no config.json"):
        workdir.read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{torn")
    with pytest.raises(WorkdirError, match=r"config.json cannot be read"):
        workdir.read_json(tmp_path / "config.json")


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    workdir.write_text(tmp_path / "f", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WorkdirError, match="f cannot be written: No space left on device"):
        workdir.write_text(tmp_path / "f", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        workdir.write_json(tmp_path / "f.json", {"x": float("nan")})
    assert not (tmp_path / "f.json").exists()


def test_a_stage_that_is_not_part_of_the_run_yet_may_be_anything(tmp_path):
    config = {"stages": ("encoder",), "memory": {"triplets": 10}}
    workdir.claim(tmp_path, config)
    workdir.claim(tmp_path, {"stages": ("encoder", "memory"), "memory": {"triplets": 20}})
    with pytest.raises(WorkdirError, match="memory.triplets: 20 there, 30 now"):
        workdir.claim(tmp_path, {"stages": ("encoder", "memory"), "memory": {"triplets": 30}})


def test_the_last_epoch_is_fixed_where_the_reversal_counts_towards_it(tmp_path):
    config = {"train": {"epochs": 10}, "reversal": {"weighting": "schedule"}}
    workdir.claim(tmp_path, config)
    with pytest.raises(WorkdirError, match="train.epochs: 10 there, 20 now"):
        workdir.claim(tmp_path, {**config, "train": {"epochs": 20}})


def test_what_trained_a_stage_is_fixed_even_while_the_stage_is_left_out(tmp_path):
    """Found by use: another margin went on under a memory, once the stage had been left out in between."""
    config = {"stages": ("encoder", "memory"), "memory": {"margin": 0.1}}
    workdir.claim(tmp_path, config)
    (tmp_path / "checkpoints" / "memory" / "step_4").mkdir(parents=True)
    workdir.claim(tmp_path, {**config, "stages": ("encoder",)})
    workdir.claim(tmp_path, config)
    for stages in (("encoder",), ("encoder", "memory")):
        with pytest.raises(WorkdirError, match=r"memory.margin: 0.1 there, 0.2 now"):
            workdir.claim(tmp_path, {"stages": stages, "memory": {"margin": 0.2}})
