"""Show where findings are in the images of a benchmark, without having trained on its masks.

    python zero_shot_ground.py --config configs/grounding/rsna_mavl.yaml --root <RSNA> --model_path FILE.pth
    accelerate launch --multi_gpu --num_processes=4 zero_shot_ground.py --config configs/grounding/siim_acr_mavl.yaml …
    python zero_shot_ground.py --config configs/grounding/phantom_mavl.yaml     # after `make demo`

Prints the table and writes it, the metrics of every case and a gallery of the best and the worst into `--output_dir`.
Only images with the finding and a mask of it count. `--protocol released` is the published way (docs/protocols.md); the
default takes thresholds from the validation split.
"""

import argparse
import sys
from pathlib import Path

from mavl.cli import complain_in_one_line, override_flags
from mavl.config import load
from mavl.settings import GroundingSettings

FLAGS = {
    "model_path": ("model_path", str, "model folder, released .pth, or hub id"),
    "root": ("root", str, "folder of the benchmark's files"),
    "protocol": ("protocol", str, "sound or released"),
    "aggregation": ("aggregation", str, "of a finding's aspects: avg, max or global"),
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
    settings = load(GroundingSettings, arguments.config, arguments.overrides)
    from mavl.ground import run  # torch takes seconds; a bad config should not

    if (result := run(settings)) is not None:
        from rich.console import Console

        from mavl.grounding_report import table

        about = result.about
        title = f"{about['title']} ({about['split']}), {about['aggregation']} maps, {about['protocol']} protocol"
        Console().print(table(result.localizations, title, f"Thresholds: {about['thresholds']}."))
        print(f"table, metrics of every case and gallery: {result.folder}")


if __name__ == "__main__":
    sys.exit(main())
