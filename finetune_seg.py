"""Fine-tune a U-Net to outline a finding, and test it.

    python finetune_seg.py --config configs/finetune_seg/rsna_mavl.yaml --root <RSNA>
    accelerate launch --multi_gpu --num_processes=4 finetune_seg.py --config configs/finetune_seg/siim_acr_mavl.yaml …
    python finetune_seg.py --config configs/finetune_seg/folder_mavl.yaml --images DIR --masks DIR
    python finetune_seg.py --config configs/finetune_seg/covid_masks_sample_mavl.yaml --root …     # on a CPU, minutes

Each seed writes a run folder `--output_dir`/seed_N: `best/` (a model folder), the list of the images in use, Dice and
IoU on test with intervals beside two trivial predictions, training curves, and a page with outlined images;
`summary.csv` beside them has the means. `--resume` goes on where a run stopped.
"""

import sys
from pathlib import Path

from mavl.config.cli import FINETUNING_FLAGS, complain_in_one_line, read_settings
from mavl.config.finetune import FinetuneSegSettings

FLAGS = FINETUNING_FLAGS | {
    "images": ("data.folder.images", str, "folder of images, in place of a benchmark"),
    "masks": ("data.folder.masks", str, "folder of their masks"),
}


@complain_in_one_line
def main() -> None:
    settings, resume = read_settings(FinetuneSegSettings, __doc__, FLAGS, resumable=True)
    from mavl.train.segmentation import run  # torch takes seconds; a bad config should not

    if (folders := run(settings, resume=resume)) is not None:
        from mavl.report.segmentation import print_summary

        print_summary(folders, Path(settings.output_dir))


if __name__ == "__main__":
    sys.exit(main())
