import pytest

from benchmarks.side_by_side import together


class Scripted:
    def __init__(self, side, kind, arguments, device, *, stopped):
        assert (side, kind, device) == ("jax", "data_parallel", "cpu")
        self.arguments, self.stopped, self.ended = arguments, stopped, False

    def start(self):
        return {"import": self.arguments["seconds"], "first": 1.0}

    def turn(self):
        seconds = self.arguments["seconds"]
        return {"seconds": seconds, "peak_bytes": 100, "loss": 10 * seconds}

    def __exit__(self, *_):
        self.ended = True


@pytest.mark.parametrize("seconds", [[2.0], [2.0, 3.0]])
def test_the_slowest_counts_and_the_memory_of_all(monkeypatch, seconds):
    monkeypatch.setattr(together, "Worker", Scripted)
    with together.Together("data_parallel", [{"seconds": each} for each in seconds]) as workers:
        assert workers.start() == {"import": max(seconds), "first": 1.0}
        assert workers.turn() == {
            "seconds": max(seconds),
            "peak_bytes": 100 * len(seconds),
            "loss": 20.0,
        }
        assert [worker.stopped for worker in workers._workers] == [len(seconds) == 1] * len(seconds)
    assert all(worker.ended for worker in workers._workers)


def test_processes_find_each_other():
    first, second = together.processes(2, {"image": 64})
    assert first["coordinator"] == second["coordinator"]
    assert first["coordinator"].startswith("localhost:")
    assert [each["process"] for each in (first, second)] == [0, 1]
    assert {each["processes"] for each in (first, second)} == {2}
    assert first["image"] == 64
