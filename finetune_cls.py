"""Fine-tune a classifier on a benchmark's labels and test the best model, for one seed or several.

    python finetune_cls.py --config configs/finetune_cls/chexpert_mavl.yaml --root <CheXpert>
    python finetune_cls.py --config configs/finetune_cls/rsna_mavl.yaml --data_pct 0.01 --seeds 0 1 2 …
    accelerate launch --multi_gpu --num_processes=4 finetune_cls.py --config configs/finetune_cls/siim_acr_mavl.yaml …
    python finetune_cls.py --config configs/finetune_cls/own_csv_mavl.yaml --root DIR       # a CSV of one's own
    python finetune_cls.py --config configs/finetune_cls/phantom_mavl.yaml     # on a CPU, a minute; make its train.csv
                                                                               # first, as the config's head says

Each seed writes a run folder `--output_dir`/seed_N: `best/` (a model folder for predict.py), the list of the images in
use, table, curves and a page; `summary.csv` beside them has the means. `--resume` goes on where a run stopped.
"""

import sys
from pathlib import Path

from mavl.config.cli import FINETUNING_FLAGS, complain_in_one_line, read_settings
from mavl.config.finetune import FinetuneClsSettings


@complain_in_one_line
def main() -> None:
    settings, resume = read_settings(FinetuneClsSettings, __doc__, FINETUNING_FLAGS, resumable=True)
    from mavl.train.classification import run  # torch takes seconds; a bad config should not

    if (folders := run(settings, resume=resume)) is not None:
        from mavl.report.classification import print_summary

        print_summary(folders, Path(settings.output_dir))


if __name__ == "__main__":
    sys.exit(main())
