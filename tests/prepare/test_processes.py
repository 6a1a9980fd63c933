"""Work for several processes: all of it done in order, few tasks ahead, errors raised, a killed process noticed."""

import os
import signal

import pytest

from mavl.prepare.processes import AHEAD, WorkerError, work_through


def square(number: int) -> int:
    return number * number


def invert(number: int) -> float:
    return 1 / number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_in_order_and_few_are_taken_ahead(workers):
    taken, done, most = [], [], 0

    def tasks():
        for number in range(40):
            taken.append(number)
            yield number

    for result in work_through(square, tasks(), workers):
        done.append(result)
        most = max(most, len(taken) - len(done))
    assert done == [number * number for number in range(40)]
    assert most <= AHEAD * workers


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised(workers):
    with pytest.raises(ZeroDivisionError):
        list(work_through(invert, [1, 2, 0, 3], workers))


def test_a_killed_process_is_an_error_of_one_line():
    with pytest.raises(WorkerError, match=r"^a worker process was killed .*fewer --workers need less.*$"):
        list(work_through(die, range(4), 2))


def test_what_was_begun_is_finished_when_the_tasks_end_in_an_error(tmp_path):
    def tasks():
        yield from (tmp_path / str(number) for number in range(3))
        raise EOFError

    with pytest.raises(EOFError):
        list(work_through(os.mkdir, tasks(), 2))
    assert len(list(tmp_path.iterdir())) == 3
