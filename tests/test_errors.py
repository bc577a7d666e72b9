import pytest

from gradrev_jax.errors import ConfigError, DataError, UserError, name_arguments, naming, together


@pytest.mark.parametrize("kind", [UserError, DataError, ConfigError])
def test_an_error_is_named_as_its_own_type_with_its_cause(kind):
    cause = OSError("gone")
    message = r"^no `root` \(config: data\.root, seed\)$"
    with pytest.raises(kind, match=message) as raised, naming("data.{}", {"seed": "seed"}):
        raise kind("no `root`", arguments=("root", "seed")) from cause
    assert type(raised.value) is kind
    assert raised.value.__cause__ is cause


def test_an_error_is_named_once_by_the_caller_who_is_nearest():
    message = r"^no `root` \(flag: --root\)$"
    with pytest.raises(UserError, match=message), naming("data.{}"), naming("--{}"):
        raise UserError("no `root`", arguments=("root",))


def test_other_errors_are_left_as_they_are():
    with pytest.raises(UserError, match="^nothing to name$"), naming("data.{}"):
        raise UserError("nothing to name")
    with pytest.raises(ValueError, match="^a bug$"), naming("data.{}"):
        raise ValueError("a bug")


def test_two_arguments_of_one_name_are_named_once_below_a_list():
    message = name_arguments(
        "faults:\n  line 1", ("root", "splits"), "--{}", {"root": "--d", "splits": "--d"}
    )
    assert message == "faults:\n  line 1\n(flag: --d)"


def test_errors_raised_together_keep_their_arguments():
    def fail(argument):
        raise DataError(f"no `{argument}`", arguments=(argument,))

    with (
        pytest.raises(DataError, match=r"1\. no `root`\n2\. no `table`\n\(config: data\.root, data\.table\)"),
        naming("data.{}"),
    ):
        together(lambda: fail("root"), lambda: 1, lambda: fail("table"))
