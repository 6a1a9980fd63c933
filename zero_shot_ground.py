"""Show where findings are in the images of a benchmark, without training on its masks.

    python zero_shot_ground.py --config configs/grounding/rsna_mavl.yaml --root <RSNA> --model_path FILE.pth
    accelerate launch --multi_gpu --num_processes=4 zero_shot_ground.py --config configs/grounding/siim_acr_mavl.yaml …
    python zero_shot_ground.py --config configs/grounding/phantom_mavl.yaml     # after `make demo`

Prints the table and writes it, the metrics of every case, a gallery of the best and the worst, and a page (report.html)
into `--output_dir`.
Only images with the finding and a mask of it count. `--protocol released` is the published way (docs/protocols.md); the
default takes thresholds from the validation split.
"""

import sys

from mavl.config.cli import EVALUATION_FLAGS, complain_in_one_line, read_settings
from mavl.config.evaluation import GroundingSettings

FLAGS = EVALUATION_FLAGS | {"aggregation": ("aggregation", str, "of a finding's aspects: avg, max or global")}


@complain_in_one_line
def main() -> None:
    settings, _ = read_settings(GroundingSettings, __doc__, FLAGS)
    from mavl.evaluate.grounding import run  # torch takes seconds; a bad config should not

    if (result := run(settings)) is not None:
        from rich.console import Console

        from mavl.report.grounding import table

        about = result.about
        maps = f"{about['aggregation']} maps, " if "aggregation" in about else ""  # only MAVL's attention has aspects
        title = f"{about['title']} ({about['split']}), {maps}{about['protocol']} protocol"
        caption = f"{about['training_images']} Thresholds: {about['thresholds']}.".lstrip()
        Console().print(table(result.localizations, title, caption, about["new_findings"]))
        print(result.summary)
        print(f"table, metrics of every case, gallery and page: {result.folder}")


if __name__ == "__main__":
    sys.exit(main())
