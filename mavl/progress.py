"""Progress bars: lively on a terminal, a line now and then in a log file, one process's only."""

import sys

from tqdm import tqdm

LOG_SECONDS = 30


def progress_bar(iterable=None, *, description: str, unit: str, show: bool = True, **options) -> tqdm:
    """tqdm over the iterable, or by hand with `total`."""
    interval = 0.2 if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(iterable, desc=description, unit=unit, disable=not show, mininterval=interval, **options)
