"""Write a model folder anew with its LoRA adapters merged into the weights.

    python -m mavl.checkpoint.merge runs/pretrain/best --out runs/pretrain/merged

The new folder holds a plain model, of the size and speed of one that was trained whole.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from mavl.config.cli import complain_in_one_line


def merge(source: Path, target: Path) -> None:
    """Write `target`, a model folder with the scores of `source` up to rounding and without adapters.

    CheckpointError where the source has no adapters, or the target exists.
    """
    from mavl.checkpoint.folder import read_model
    from mavl.checkpoint.released import NETWORKS, CheckpointError

    model, about, folder = read_model(source, NETWORKS)
    if not about.get("lora"):
        raise CheckpointError(f"{source}: a model without adapters: nothing to merge")
    write_again(model, about, folder, target)


def write_again(model: Any, about: dict, folder: Path, target: Path) -> None:
    """Write the model that was read from a folder, with what is stored on it, and the folder's text into another.

    CheckpointError where that exists.
    """
    from mavl.checkpoint.folder import EMBEDDINGS, TEXT_ENCODER, make_folder, write_model
    from mavl.checkpoint.released import CheckpointError

    if target.exists():
        raise CheckpointError(f"{target} exists already; name another folder")
    make_folder(target)
    if (folder / TEXT_ENCODER).is_dir():
        shutil.copytree(folder / TEXT_ENCODER, target / TEXT_ENCODER)
    if (folder / EMBEDDINGS).is_file():
        shutil.copyfile(folder / EMBEDDINGS, target / EMBEDDINGS)
    write_model(target, model, {key: value for key, value in about.items() if key not in ADDED}, about["state"])


ADDED = ("lora", "state", "format", "provenance")
"""What a merged folder states anew, or not at all."""


@complain_in_one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a model folder with adapters")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    arguments = parser.parse_args()
    merge(arguments.source, arguments.out)
    print(f"{arguments.out}: written, with the adapters merged")


if __name__ == "__main__":
    sys.exit(main())
