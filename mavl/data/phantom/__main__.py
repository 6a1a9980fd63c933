"""Write phantoms to a folder, with a contact sheet of the first ones.

    python -m mavl.data.phantom --out phantoms --number 500 --seed 0 --size 224

Some 20 ms a phantom at 224 pixels. See `write_dataset` for what the folder holds.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from mavl.data.phantom import contact_sheet, draw, write_dataset

ON_SHEET = 24


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m mavl.data.phantom", description="Write synthetic chest X-rays.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--number", type=int, default=100, help="how many phantoms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=224, help="side in pixels")
    parser.add_argument("--exclude", nargs="*", default=[], metavar="FINDING", help="findings never to draw")
    arguments = parser.parse_args()
    indices = tqdm(range(arguments.number), unit="phantom")
    folder = write_dataset(arguments.out, arguments.seed, indices, arguments.size, arguments.exclude)
    shown = [
        draw(arguments.seed, index, arguments.size, arguments.exclude)
        for index in range(min(arguments.number, ON_SHEET))
    ]
    contact_sheet(shown, columns=6).save(folder / "sheet.png")
    print(f"{arguments.number} phantoms in {folder}")


if __name__ == "__main__":
    main()
