"""Fine-tune a classifier on a benchmark's labels, test the best model, and tell the mean over seeds.

    python finetune_cls.py --config configs/finetune_cls/chexpert_mavl.yaml --root <CheXpert>
    python finetune_cls.py --config configs/finetune_cls/rsna_mavl.yaml --data_pct 0.01 --seeds 0 1 2 …
    accelerate launch --multi_gpu --num_processes=4 finetune_cls.py --config configs/finetune_cls/siim_acr_mavl.yaml …
    python finetune_cls.py --config configs/finetune_cls/own_csv_mavl.yaml --root DIR       # a CSV of one's own
    python finetune_cls.py --config configs/finetune_cls/phantom_mavl.yaml     # on a CPU, a minute; draw its train.csv
                                                                               # first, as the config's head says

Each seed writes a run folder `--output_dir`/seed_N: `best/` (a model folder, which predict.py serves), the images that
were drawn, table, curves and a page; `summary.csv` beside them has the means. `--resume` goes on where a run stopped.
"""

import argparse
import json
import sys
from pathlib import Path

from mavl.config.cli import complain_in_one_line, override_flags
from mavl.config.finetune import FinetuneClsSettings
from mavl.config.loader import load

FLAGS = {
    "root": ("data.root", str, "folder of the benchmark's files"),
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
    settings = load(FinetuneClsSettings, arguments.config, [*arguments.overrides, *seeds])
    from mavl.train.classification import run  # torch takes seconds; a bad config should not

    if (folders := run(settings, resume=arguments.resume)) is not None:
        from mavl.report.classification import print_summary

        print_summary(folders, Path(settings.output_dir))


if __name__ == "__main__":
    sys.exit(main())
