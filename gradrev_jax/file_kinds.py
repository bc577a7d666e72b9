"""Recognises files that stand in for others, by their first bytes."""

LFS_STARTS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
LFS_ADVICE = "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
HEAD = 64  # bytes that tell


def is_lfs_pointer(start: bytes) -> bool:
    r"""Returns whether a file is a Git LFS pointer, which Git leaves where LFS has not fetched the file.

    Args:
      start: the file's first ``HEAD`` bytes, or all of it.

    Example:
      >>> is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
      True
    """
    return start.startswith(LFS_STARTS)
