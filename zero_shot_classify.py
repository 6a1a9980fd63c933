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
    if settings.stress:
        put_under_stress(settings)
    elif settings.sensitivity is not None:
        compare_wordings(settings)
    else:
        classify(settings)


def classify(settings: ZeroShotSettings) -> None:
    from mavl.evaluate.classification import run  # torch takes seconds; a bad config should not

    if (result := run(settings)) is not None:
        from rich.console import Console

        from mavl.report.classification import table

        about = result.about
        title = f"{about['title']} ({about['split']}), {about['head']} head, {about['protocol']} protocol"
        caption = f"{about['training_images']} Thresholds: {about['thresholds']}.".lstrip()
        Console().print(table(result.evaluation, title, caption, about["new_findings"]))
        print(result.summary)
        print(f"table, scores, curves and page: {result.folder}")


def put_under_stress(settings: ZeroShotSettings) -> None:
    from mavl.evaluate.stress import run

    if (result := run(settings)) is not None:
        from rich.console import Console

        from mavl.report.analyses.stress import table

        title = f"{result.about['title']} ({result.about['split']}), {result.about['head']} head: under stress"
        Console().print(table(result, title))
        print(f"table: {result.folder}")


def compare_wordings(settings: ZeroShotSettings) -> None:
    from mavl.evaluate.wordings import run

    if (result := run(settings)) is not None:
        from rich.console import Console

        from mavl.report.analyses.wordings import spread_table, wording_table

        title = f"{result.about['title']} ({result.about['split']}), {result.about['head']} head"
        console = Console()
        console.print(spread_table(result, f"{title}: each finding over the wordings"))
        console.print()
        console.print(wording_table(result, f"{title}: mean AUROC under each wording"))
        print(f"tables, plot and the books of every wording: {result.folder}")


if __name__ == "__main__":
    sys.exit(main())
