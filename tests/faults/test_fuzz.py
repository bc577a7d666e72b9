import json
import time

import pytest

from gradrev_jax.errors import DataError
from tests.faults import fuzzing, planted
from tests.faults.fuzz import main
from tests.faults.fuzzing import FAILED, READ, Target, Trial, load_targets
from tests.faults.planted import FAULTS

INPUTS = 10  # of each target
# Reads of other files of a damaged checkpoint may end after Orbax has closed its event loop, in a thread of
# tensorstore's, where nobody can catch that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

hypothesis = pytest.importorskip("hypothesis")
TARGETS = load_targets()


@pytest.fixture(scope="module")
def trial(request, tmp_path_factory):
    """A trial of the target that a test is parametrised with."""
    made = Trial(TARGETS[request.param], tmp_path_factory.mktemp("fuzz").resolve() / "trial")
    made.check_good()
    return made


@pytest.mark.long
@pytest.mark.parametrize("trial", TARGETS, indirect=True)
def test_mutated_files_are_read_or_refused(trial):
    @hypothesis.settings(max_examples=INPUTS, derandomize=True, deadline=None, database=None)
    @hypothesis.given(hypothesis.strategies.integers(0, 2**32))
    def attempt(number):
        outcome = trial.run(number)
        assert outcome.result != FAILED, outcome.reason

    attempt()
    trial.check_good()  # which are there again


def test_every_planted_fault_is_found_kept_and_ends_the_command_with_1(tmp_path):
    out = tmp_path / "fuzz.json"
    command = ["--inputs=13", "--targets=tests.faults.planted:planted", "--seed=79", f"--out={out}"]
    assert main(command) == 1
    result = json.loads(out.read_text())["targets"]["tests.faults.planted:planted"]
    assert result["inputs"] == 13
    assert result["read"] + result["refused"] + result["failed"] == 13
    found = {}
    for failure in result["failures"]:
        kept = tmp_path / "failures" / f"planted-79-{failure['number']}"
        fault = FAULTS[sum((kept / "file").read_bytes()) % len(FAULTS)]
        found[fault] = failure["reason"]
        assert json.loads(kept.with_name(f"{kept.name}.json").read_text())["reason"] == failure["reason"]
    assert found.keys() == set(FAULTS) - {"read", "refuse"}
    starts = {
        "nameless": "refused without",
        "raise": "KeyError",
        "escape": "did: open: reads",
        "run": "did: ",
    }
    starts |= {"allocate": "memory", "abort": "crash: exit status -6", "write": "did: open: writes"}
    assert {fault for fault, start in starts.items() if not found[fault].startswith(start)} == set()


def test_a_reader_that_hangs_is_stopped_even_if_it_catches_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "SECONDS", 0.05)

    def read(folder):
        try:
            time.sleep(60)
        except Exception:
            raise DataError("caught") from None

    outcome = Trial(Target("hangs", planted.make, read), tmp_path / "trial").run(0)
    assert (outcome.result, outcome.reason) == (FAILED, "hang: not done after 0.05 s")


def test_an_input_depends_on_its_number_and_the_good_files_come_back(tmp_path):
    def read(folder):
        (folder / "file").unlink()
        (folder / "more").touch()

    trial = Trial(Target("deletes", planted.make, read), tmp_path / "trial")
    again = Trial(Target("deletes", planted.make, read), tmp_path / "again")
    mutated = [list(trial.mutated(number).values()) for number in range(50)]
    assert mutated == [list(again.mutated(number).values()) for number in range(50)]
    assert len({content for (content,) in mutated}) > 25
    assert trial.run(0).result == READ
    assert {path.name: path.read_bytes() for path in trial.folder.iterdir()} == {"file": bytes(64)}
