"""One writer at a time in a folder that several processes may be started on."""

import errno
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What some file systems of clusters answer when they are asked for a lock."""


class InUseError(ValueError):
    """A folder that another process is writing."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """The folder locked; the lock goes with the process, however that ends. InUseError where another one has it."""
    with open(folder / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(f"{folder} is being written by another process") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"{folder}: its file system has no locks; see that no other process writes it", file=sys.stderr)
        yield
