"""Images with labels and masks, from files to a model's batches."""

import os
import sys
from functools import cache


class DataError(ValueError):
    """Data that cannot be used as configured; the message names the file, row or setting, and the fix."""


@cache
def notice(line: str) -> None:
    """Print a line on what was left out or repaired, once, in the main process only."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
