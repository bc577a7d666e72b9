import json

import pytest

from configs import garments
from gradrev_jax.errors import ConfigError, WorkdirError
from gradrev_jax.evaluation.opening import read_run_config
from gradrev_jax.runs import workdir
from gradrev_jax.runs.builders import with_defaults


@pytest.fixture
def run(tmp_path):
    workdir.claim(tmp_path, with_defaults(garments.get_config()).to_dict())
    return tmp_path


def change(run, section, **fields):
    content = json.loads((run / "config.json").read_text())
    (content[section] if section else content).update(fields)
    (run / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("", {"stages": [["encoder"]]}, "stages = .*: a list of values of its type"),
        ("", {"seed": []}, "seed = .*: a value of the type int"),
        ("", {"train": None}, "train.batch_size is missing"),
        ("train", {"epo.chs": 3}, "does not accept dots in field names"),
    ],
)
def test_a_damaged_config_is_named(run, section, fields, message):
    assert read_run_config(run, {}, {}).data.format == "garments"
    change(run, section, **fields)
    with pytest.raises(WorkdirError, match=message) as caught:
        read_run_config(run, {}, {})
    assert str(run / "config.json") in str(caught.value)


def test_a_value_that_no_run_can_have_is_named_with_its_run(run):
    change(run, "", stages=["memory"])
    with pytest.raises(ConfigError, match=f"^the config of {run} cannot be run:\n  stages = "):
        read_run_config(run, {}, {})
