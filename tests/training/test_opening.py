from gradrev_jax.runs import workdir
from gradrev_jax.training.opening import as_begun


def test_fields_that_a_run_of_an_earlier_version_keeps_are_named(tiny_config, tmp_path, capsys):
    """It went on with them without a word, whatever the config said."""
    assert as_begun(tiny_config, tmp_path) is tiny_config, "no run is there"
    workdir.write_json(tmp_path / "config.json", {"seed": 0})
    tiny_config.data.missing = "value"
    assert as_begun(tiny_config, tmp_path).data.missing == "ignore"
    said = "".join(capsys.readouterr())
    assert f"{tmp_path} was begun by an earlier version, and goes on as it was: " in said
    assert "data.missing='ignore'" in said
    assert tiny_config.data.missing == "value", "the config that was given stays as it is"
    tiny_config.data.missing = "ignore"
    as_begun(tiny_config, tmp_path)
    assert "data.missing=" not in "".join(capsys.readouterr())
