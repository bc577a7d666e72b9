import json

from configs import garments


def test_what_cannot_be_compared_says_why_in_one_message_and_writes_nothing(call, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(garments.get_config().to_dict()))
    for arguments, status, message in (
        ([], 4, "no run to compare; give their folders"),
        ([tmp_path / "run"], 4, f"evaluate it first: python evaluate.py --workdir={tmp_path / 'run'}"),
    ):
        ended = call("compare", *arguments, f"--out={tmp_path / 'out'}")
        assert ended.status == status
        assert ended.err.startswith("error: ")
        assert message in ended.err
        assert not (tmp_path / "out").exists()
    assert "holds other files" in call("compare", tmp_path / "none", f"--out={tmp_path}").err
