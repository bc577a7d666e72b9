import json

from tensorboardX import summary

from gradrev_jax.runs import metrics_log
from gradrev_jax.runs.metrics_log import MetricsLog


def record(step, **values):
    return {"stage": "encoder", "step": step, "epoch": step / 10, "loss": 1.0, **values}


def test_log_drops_what_is_about_to_be_done_again(tmp_path):
    with MetricsLog(tmp_path, "encoder", 0) as log:
        for step in (5, 10, 15):
            log.write(record(step))
        log.write(record(15, validation_accuracy={"macro": 0.5, "per_attribute": {"color": 0.5}}))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"stage": "enc')  # torn by a killed process
    with MetricsLog(tmp_path, "encoder", 10) as log:
        log.write(record(12))
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [5, 10, 12]
    assert list((tmp_path / "tensorboard" / "encoder").iterdir())


def test_no_two_names_share_a_tensorboard_tag(tmp_path):
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
    tags = [summary.scalar(tag, 1.0).value[0].tag for tag in metrics_log.scalar_tags(record)]
    assert len(set(tags)) == len(names) + 1
    assert tags[:2] == ["per_attribute/color", "per_attribute/neck_line"]
    assert tags[3] == "per_attribute/size.20..28.EU.29."


def test_numbers_go_to_tensorboard_under_their_path(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(metrics_log.SummaryWriter, "add_scalar", lambda self, *point: written.append(point))
    with MetricsLog(tmp_path, "encoder", 0) as log:
        log.write(record(5, pathways={"color": {"size": 0.25}}))
    assert written == [("loss", 1.0, 5), ("pathways/color/size", 0.25, 5)]


def test_another_stages_records_stay(tmp_path):
    with MetricsLog(tmp_path, "encoder", 0) as log:
        log.write(record(20))
    with MetricsLog(tmp_path, "memory", 0) as log:
        log.write({**record(5), "stage": "memory"})
    with MetricsLog(tmp_path, "memory", 0) as log:
        log.write({**record(3), "stage": "memory"})
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in kept] == [("encoder", 20), ("memory", 3)]
