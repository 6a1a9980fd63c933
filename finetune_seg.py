"""Fine-tune a U-Net to outline a finding, and test it.

    python finetune_seg.py --config configs/finetune_seg/rsna_mavl.yaml --root <RSNA>
    accelerate launch --multi_gpu --num_processes=4 finetune_seg.py --config configs/finetune_seg/siim_acr_mavl.yaml …
    python finetune_seg.py --config configs/finetune_seg/folder_mavl.yaml --images DIR --masks DIR
    python finetune_seg.py --config configs/finetune_seg/covid_masks_sample_mavl.yaml --root …     # on a CPU, minutes

Each seed writes a run folder `--output_dir`/seed_N: `best/` (a model folder), the images drawn, Dice and IoU on
test with intervals beside two trivial predictions, training curves, and a page with outlined images; `summary.csv`
beside them has the means. `--resume` goes on where a run stopped.
"""

import argparse
import json
import sys
from pathlib import Path

from mavl.config.cli import complain_in_one_line, override_flags
from mavl.config.finetune import FinetuneSegSettings
from mavl.config.loader import load

FLAGS = {
    "root": ("data.root", str, "folder of the benchmark's files"),
    "images": ("data.folder.images", str, "folder of images, in place of a benchmark"),
    "masks": ("data.folder.masks", str, "folder of their masks"),
    "checkpoint": ("init.checkpoint", str, "pre-trained MAVL or MedKLIP: a model folder or released .pth"),
    "data_pct": ("data.data_pct", float, "share of the training images, such as 0.01"),
    "bs": ("data.batch_size", int, "images a step and process"),
    "num_workers": ("data.workers", int, "loader processes for each training process"),
    "output_dir": ("output_dir", str, "folder of the run folders"),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", help="a run for each (seeds)")
    parser.add_argument("--resume", action="store_true", help="go on from the last complete checkpoints, if any")
    override_flags(parser, FLAGS)
    return parser.parse_args()


@complain_in_one_line
def main() -> None:
    arguments = parse()
    seeds = [f"seeds={json.dumps(arguments.seeds)}"] if arguments.seeds else []
    settings = load(FinetuneSegSettings, arguments.config, [*arguments.overrides, *seeds])
    from mavl.train.segmentation import run  # torch takes seconds; a bad config should not

    if (folders := run(settings, arguments.resume)) is not None:
        from mavl.report.segmentation import print_summary

        print_summary(folders, Path(settings.output_dir))


if __name__ == "__main__":
    sys.exit(main())
