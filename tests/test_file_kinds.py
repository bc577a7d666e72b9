import pytest

from gradrev_jax.file_kinds import HEAD, is_lfs_pointer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (POINTER, True),
        (POINTER.replace(b"git-lfs", b"hawser"), True),  # as its first releases wrote them
        (b"version 2\n1 0 0\n", False),
        (b"", False),
    ],
)
def test_a_pointer_is_told_by_its_first_bytes(content, pointer):
    assert is_lfs_pointer(content[:HEAD]) == pointer
