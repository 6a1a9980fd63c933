"""Name findings in the images of a benchmark without training on its labels.

    python zero_shot_classify.py --config configs/zero_shot/chexpert_mavl.yaml --root <CheXpert> --model_path FILE.pth
    accelerate launch --multi_gpu --num_processes=4 zero_shot_classify.py --config configs/zero_shot/rsna_mavl.yaml …
    python zero_shot_classify.py --config configs/zero_shot/phantom_mavl.yaml     # after `make demo`

Prints the table and writes it, the scores of every image, the curves, and a page (report.html) into `--output_dir`.
`--protocol released` is the published way (docs/protocols.md); the default takes thresholds from the validation split.

`--wordings all`, or some of names,descriptions,without,reversed,templates, measures instead how far the words move the
AUROC: the benchmark is scored with the books and with each of these wordings of them (mavl/text/wordings.py).
`--stress window rotation jpeg marker flip negation`, or some of them, measures how far changes of the films that change
no finding, and prompts that deny it, move scores and AUROC (mavl/evaluate/stress.py).
"""

import sys

from mavl.config.cli import EVALUATION_FLAGS, complain_in_one_line, read_settings
from mavl.config.evaluation import ZeroShotSettings
from mavl.vocab import WORDINGS


def wordings(text: str) -> list[str]:
    return list(WORDINGS) if text == "all" else text.split(",")


FLAGS = EVALUATION_FLAGS | {
    "head": ("head", str, "supervised or contrastive"),
    "save_operating_points": (
        *("save_operating_points", bool),
        "write the thresholds into the model folder, for predictions",
    ),
    "stress": ("stress", list[str], "some of window rotation jpeg marker flip negation"),
    "wordings": ("sensitivity.built_in", wordings, "all, or some of " + ",".join(WORDINGS)),
}


@complain_in_one_line
def main() -> None:
    settings, _ = read_settings(ZeroShotSettings, __doc__, FLAGS)
    from mavl.evaluate.printing import classify, compare_wordings, put_under_stress  # torch takes seconds

    if settings.stress:
        put_under_stress(settings)
    elif settings.sensitivity is not None:
        compare_wordings(settings)
    else:
        classify(settings)


if __name__ == "__main__":
    sys.exit(main())
