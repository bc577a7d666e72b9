import threading
import warnings

import pytest

from gradrev_jax.data.images.quiet_pillow import quiet_pillow


def test_threads_that_overlap_leave_the_filter_as_it_was():
    """Each restored what it had found, and the later one so the filter of the earlier."""
    before = list(warnings.filters)
    inside, go_on = threading.Event(), threading.Event()

    def read():
        with quiet_pillow():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=read)
    with quiet_pillow():
        thread.start()
        assert inside.wait(10)
    assert warnings.filters != before, "the other thread still reads"
    go_on.set()
    thread.join()
    assert list(warnings.filters) == before


def test_warnings_of_others_are_shown():
    def warn():
        with quiet_pillow():
            warnings.warn_explicit("damaged metadata", UserWarning, "Image.py", 1, module="PIL.Image")
            warnings.warn("of a model", stacklevel=1)

    with pytest.warns(UserWarning, match="of a model") as caught:
        warn()
    assert [str(warning.message) for warning in caught] == ["of a model"]
