"""Compare models on one benchmark: a leaderboard, and paired differences to the first, by patient.

    python compare.py runs/zero_shot/rsna/MODEL_A/supervised_sound runs/zero_shot/rsna/MODEL_B/supervised_sound
    python compare.py runs/finetune_cls/a/seed_0 runs/finetune_cls/b/seed_0 --out runs/comparison

Takes the result folders of zero_shot_classify.py and finetune_cls.py; nothing is scored again. Prints the tables and
writes leaderboard.csv, differences.csv, leaderboard.tex, comparison.json and comparison.html into `--out`. Results of
other images, labels, benchmarks or versions are refused.
"""

import argparse
import sys
from pathlib import Path

from mavl.config.cli import complain_in_one_line, positive
from mavl.config.evaluation import PUBLISHED


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="result folders; the others are compared with the first")
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"), help="output folder (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier comparison in --out")
    parser.add_argument(
        "--published", type=Path, nargs="?", const=PUBLISHED, help="show published figures too (%(const)s)"
    )
    parser.add_argument("--resamples", type=positive, default=1000, help="of the bootstrap (%(default)s)")
    return parser.parse_args()


@complain_in_one_line
def main() -> None:
    arguments = parse()
    from rich.console import Console

    from mavl.evaluate.comparison import compare
    from mavl.report.analyses import comparison as report
    from mavl.report.folder import COMPARED, whole_folder

    with whole_folder(arguments.out, made=COMPARED, overwrite=arguments.overwrite) as folder:
        compared = compare(arguments.results, resamples=arguments.resamples, published=arguments.published)
        report.write(compared, folder)
    console = Console()
    console.print(report.leaderboard(compared, f"{compared.contestants[0].about['title']}: means"))
    for pair in compared.pairs:
        console.print(report.differences(compared, pair))
    print(f"tables and page: {arguments.out / report.PAGE}")


if __name__ == "__main__":
    sys.exit(main())
