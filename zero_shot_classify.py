"""Name findings in the images of a benchmark without having trained on its labels.

    python zero_shot_classify.py --config configs/zero_shot/chexpert_mavl.yaml --root <CheXpert> --model_path FILE.pth
    accelerate launch --multi_gpu --num_processes=4 zero_shot_classify.py --config configs/zero_shot/rsna_mavl.yaml …
    python zero_shot_classify.py --config configs/zero_shot/phantom_mavl.yaml     # after `make demo`

Prints the table and writes it, the scores of every image and the curves into `--output_dir`. `--protocol released` is
the published way (docs/protocols.md); the default takes thresholds from the validation split.
"""

import argparse
import sys
from pathlib import Path

from mavl.cli import complain_in_one_line, override_flags
from mavl.config import load
from mavl.settings import ZeroShotSettings

FLAGS = {
    "model_path": ("model_path", str, "model folder, released .pth, or hub id"),
    "root": ("root", str, "folder of the benchmark's files"),
    "head": ("head", str, "supervised or contrastive"),
    "protocol": ("protocol", str, "sound or released"),
    "bs": ("batch_size", int, "images a batch and process"),
    "num_workers": ("workers", int, "loader processes for each process"),
    "output_dir": ("output_dir", str, "where the result folder is made"),
}


@complain_in_one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    override_flags(parser, FLAGS)
    arguments = parser.parse_args()
    settings = load(ZeroShotSettings, arguments.config, arguments.overrides)
    from mavl.evaluate import run  # torch takes seconds; a bad config should not

    if (result := run(settings)) is not None:
        from rich.console import Console

        from mavl.report import table

        about = result.about
        title = f"{about['title']} ({about['split']}), {about['head']} head, {about['protocol']} protocol"
        Console().print(table(result.evaluation, title, f"Thresholds: {about['thresholds']}."))
        print(result.summary)
        print(f"table, scores and curves: {result.folder}")


if __name__ == "__main__":
    sys.exit(main())
