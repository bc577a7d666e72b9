from gradrev_jax import notes, processes


def test_a_note_is_a_line_on_stderr_that_one_process_prints(monkeypatch, capsys):
    notes.say("two spellings")
    monkeypatch.setattr(processes, "is_first", lambda: False)
    notes.say("said by another process")
    assert capsys.readouterr() == ("", "note: two spellings\n")
