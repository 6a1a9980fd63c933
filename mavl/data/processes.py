"""Locks of folders, exit of child processes, stop on signals."""

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

LOCK = ".lock"
STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""The signals of schedulers that end a run soon."""
TRY_AGAIN = 75
"""The exit code of a run that was stopped and can go on: EX_TEMPFAIL of sysexits.h."""


class InUseError(ValueError):
    """A folder that another process writes."""


class StopRequested(BaseException):
    """A signal has come that ends the run; its argument is the signal's name."""


@contextmanager
def without_signals() -> Iterator[None]:
    """In the block signals of STOPPING wait; a process that it starts never gets them, nor do that one's children."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


@contextmanager
def sole_writer(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock the folder for the block; the end of the process also ends the lock.

    Where another process has locked it, InUseError, or with `wait` its turn.
    """
    with open(folder / LOCK, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB * (not wait))
        except BlockingIOError as error:
            raise InUseError(f"{folder} is being written by another process") from error
        except OSError as error:
            fix = "let no other process write it"
            print(f"{folder}: its file system has no locks ({error.strerror}); {fix}", file=sys.stderr)
        yield


def leave_with_parent(*_) -> None:
    """Make this process ignore interrupts, which its parent handles, and exit when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


class Stopping:
    """Whether a signal of STOPPING has come, to this process or to another one of the run.

    Signals belong to the process, so there is one state for all. careful: whether the run has something to save, so
    that a signal waits for `check` instead of ending it at once.
    """

    received: ClassVar[str | None] = None
    careful: ClassVar[bool] = False
    votes: ClassVar[Any] = None

    @classmethod
    @contextmanager
    def expected(cls) -> Iterator[None]:
        """In the block a signal of STOPPING raises StopRequested."""
        former = {number: signal.signal(number, cls._receive) for number in STOPPING}
        cls.received, cls.careful, cls.votes = None, False, None
        try:
            yield
        finally:
            cls.received, cls.careful = None, False
            for number, handler in former.items():
                signal.signal(number, handler)

    @classmethod
    def _receive(cls, number: int, frame: FrameType | None) -> None:
        cls.received = cls.received or signal.Signals(number).name
        if not cls.careful:
            raise StopRequested(cls.received)

    @classmethod
    @contextmanager
    def later(cls) -> Iterator[None]:
        """In the block a signal is `received`, but raises StopRequested at its end only."""
        former, cls.careful = cls.careful, True
        try:
            yield
        finally:
            cls.careful = former
        if cls.received and not cls.careful:
            raise StopRequested(cls.received)

    @classmethod
    def check(cls, accelerator: Any) -> None:
        """StopRequested in every process of the run once a signal has come to any; all must call it equally often.

        Several processes count their votes without waiting for the device, so that the answer comes a call later.
        """
        if not cls.careful:
            return
        stop = cls.received is not None
        if accelerator.num_processes > 1:
            import torch  # here, since processes that prepare data import this module too

            vote = torch.tensor(float(stop), device=accelerator.device)
            before, cls.votes = cls.votes, accelerator.reduce(vote)
            stop = before is not None and before.item() > 0
        if stop:
            raise StopRequested(cls.received or "a signal to another process")
