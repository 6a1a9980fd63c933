"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO]:
    """A file to write that takes the place of `path` at the end of the block, unless the block fails."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with open(draft, mode, **text) as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
