"""Whether a restoration is being written as a program for other runtimes (launch/exporting/).

Such a program serves images of every size, so that nothing in it may be decided by the sizes of the images it is traced
with, and it has no Python: what is chosen for speed, or done in numpy, is then done in plain operators with the same
result.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_active = False


def is_exporting() -> bool:
    """Whether what runs is being traced for an export."""
    return _active


@contextmanager
def exporting() -> Iterator[None]:
    """Trace what runs inside for an export."""
    global _active
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before
