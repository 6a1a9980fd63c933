"""Describe findings by a language model: names in, a book for predict.py and the evaluations out.

    python concept_gen/generate.py --names "rib fracture" covid19 --out book.json --model gpt-4.1-mini
    python concept_gen/generate.py --file names.txt --out book.json --base-url http://localhost:11434/v1 --model qwen3
    python concept_gen/generate.py --out book.json --review sheet.csv        # for a clinician's spreadsheet program
    python concept_gen/generate.py --out book.json --read-review sheet.csv   # and back into the book

Any OpenAI-compatible server. OpenAI's server gets the key in OPENAI_API_KEY; any other server gets a key only by
`--api-key-env NAME`, and mostly needs none. An answer costs about 1,400 tokens in and 200 out; `--dry-run` counts the
missing ones. Answers are kept as they arrive: after an interruption the same command requests only the rest. Exit
code: 0 when the book is complete, 1 when findings failed, 2 when the run could not go on, 130 after Ctrl-C, 143 after
SIGTERM.
"""

import argparse
import sys
from pathlib import Path

from mavl.concepts.plan import ConceptSettings, make_plan, read_names
from mavl.concepts.prompts import read_prompts
from mavl.concepts.review import VERDICTS, read_review, write_sheet
from mavl.config.cli import complain_in_one_line, override_flags
from mavl.config.loader import load
from mavl.llm.settings import flags
from mavl.progress import plural

PROMPTS = Path(__file__).resolve().parent / "prompts"
SHEET = "write a sheet of the unreviewed findings in the book, or of the --names and --file, once they are in it"
HOW = (
    f'For each finding write one verdict ({", ".join(VERDICTS)}); corrections go under "edited text", with the verdict '
    "edit; the reviewer's name is needed once."
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=[], help="findings, in your own words")
    parser.add_argument("--file", type=Path, help="more of them, one a line, comments after #")
    parser.add_argument("--out", type=Path, required=True, help="book to write, or to add to")
    parser.add_argument("--dry-run", action="store_true", help="only count the missing calls and their tokens")
    sheets = parser.add_mutually_exclusive_group()
    sheets.add_argument("--review", type=Path, metavar="SHEET.csv", help=SHEET)
    sheets.add_argument("--read-review", type=Path, metavar="SHEET.csv", help="read a sheet back into the book")
    override_flags(parser, flags(ConceptSettings))
    return parser.parse_args()


def write_book(arguments: argparse.Namespace, names: list[str]) -> int:
    """Request what is missing; the exit code."""
    settings = load(ConceptSettings, None, arguments.overrides)
    plan = make_plan(settings, names, arguments.out, read_prompts(Path(settings.prompts or PROMPTS)))
    if arguments.dry_run:
        findings = dict.fromkeys(job.finding for job in plan.jobs)
        print(f"{plan.estimate()}. Nothing was sent.")
        print(f"to request: {', '.join(map(repr, findings)) or 'nothing'}")
        return 0
    from mavl.concepts.generate import generate  # openai takes a second; a mistyped name should not

    outcome = generate(plan)
    for finding, reason in outcome.failed.items():
        print(f"failed {finding}: {reason}", file=sys.stderr)
    print(f"{outcome}: {arguments.out}")
    if outcome.fatal:
        raise outcome.fatal
    return outcome.exit_code


@complain_in_one_line
def main() -> None:
    arguments = parse()
    if arguments.read_review:
        print(f"{read_review(arguments.out, arguments.read_review)}: {arguments.out}")
        return
    names, code = [], 0
    if arguments.names or arguments.file or not arguments.review:
        names = read_names(arguments.names, arguments.file)
        code = write_book(arguments, names)
    if arguments.review and not arguments.dry_run:
        written = write_sheet(arguments.out, arguments.review, names)
        print(f"{plural(written, 'finding')} to review: {arguments.review}. {HOW}")
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
