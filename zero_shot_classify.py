"""Name findings in the images of a benchmark without having trained on its labels.

    python zero_shot_classify.py --config configs/zero_shot/chexpert_mavl.yaml --root <CheXpert> --model_path FILE.pth
    accelerate launch --multi_gpu --num_processes=4 zero_shot_classify.py --config configs/zero_shot/rsna_mavl.yaml …
    python zero_shot_classify.py --config configs/zero_shot/phantom_mavl.yaml     # after `make demo`

Prints the table and writes it, the scores of every image and the curves into `--output_dir`. `--protocol released` is
the published way (docs/protocols.md); the default takes thresholds from the validation split.
"""

import sys

from mavl.cli import complain_in_one_line, evaluation_settings
from mavl.settings import ZeroShotSettings

OWN_FLAGS = {"head": ("head", str, "supervised or contrastive")}


@complain_in_one_line
def main() -> None:
    settings = evaluation_settings(ZeroShotSettings, __doc__, OWN_FLAGS)
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
