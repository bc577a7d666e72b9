import io
import json

import pytest

from benchmarks.side_by_side.cases import tiny
from benchmarks.side_by_side.turns import summary
from benchmarks.side_by_side.worker import serve


def test_every_request_has_its_answer():
    case = next(case for case in tiny(False) if case.kind == "inference")
    request = {"side": "jax", "kind": case.kind, "arguments": case.sizes}
    answers = io.StringIO()
    serve(io.StringIO(json.dumps(request) + "\nrun\nrun\n"), answers)
    first, *turns = map(json.loads, answers.getvalue().splitlines())
    assert set(first) == {"import", "prepare", "first"}
    assert len(turns) == 2
    for turn in turns:
        assert turn["units"] == 4
        assert 0 < turn["seconds"] < first["first"] + 60
        assert turn["peak_bytes"] > 2**20


def test_torch_says_with_how_many_threads_it_computes():
    torch = pytest.importorskip("torch")
    case = next(case for case in tiny(False) if case.kind == "inference")
    request = {"side": "torch", "kind": case.kind, "arguments": case.sizes}
    answers = io.StringIO()
    serve(io.StringIO(json.dumps(request) + "\nrun\n"), answers)
    turn = json.loads(answers.getvalue().splitlines()[-1])
    assert turn["threads"] == torch.get_num_threads()
    assert summary({}, [turn])["threads"] == torch.get_num_threads()
