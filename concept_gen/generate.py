"""Have a language model put findings into words: names in, a book for predict.py and the evaluations out.

    python concept_gen/generate.py --names "rib fracture" covid19 --out book.json --model gpt-4.1-mini
    python concept_gen/generate.py --file names.txt --out book.json --base-url http://localhost:11434/v1 --model qwen3 …
    python concept_gen/generate.py --out book.json --review sheet.md        # for a clinician to tick
    python concept_gen/generate.py --out book.json --read-review sheet.md   # and back into the book

Any OpenAI-compatible server. The key is taken from OPENAI_API_KEY; servers of one's own mostly need none. An answer
costs about 1,400 tokens in and 200 out; `--dry-run` says how many are missing, and of which findings. Answers are kept
as they come: a run that was stopped or killed and is started again asks only for the rest. Exit code: 0 when the book
is complete, 1 when findings failed, 2 when the run could not go on, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import sys
from pathlib import Path

from mavl.concepts.names import counted, read_names
from mavl.concepts.review import read_review, write_sheet
from mavl.concepts.settings import FLAGS, read_settings
from mavl.config.cli import complain_in_one_line, override_flags

PROMPTS = Path(__file__).resolve().parent / "prompts"
SHEET = "write a sheet of what is unreviewed in the book, or of the --names and --file, once they are in it"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=[], help="findings, in the words of your choice")
    parser.add_argument("--file", type=Path, help="more of them, one a line, # before comments")
    parser.add_argument("--out", type=Path, required=True, help="book to write, or to add to")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what it would ask, in how many calls and tokens"
    )
    sheets = parser.add_mutually_exclusive_group()
    sheets.add_argument("--review", type=Path, metavar="SHEET.md", help=SHEET)
    sheets.add_argument("--read-review", type=Path, metavar="SHEET.md", help="read a ticked sheet back into the book")
    override_flags(parser, FLAGS)
    return parser.parse_args()


def write_book(arguments: argparse.Namespace, names: list[str]) -> int:
    """Ask for what is missing; the exit code."""
    from mavl.concepts.client import Client  # openai takes a second; a mistyped name should not
    from mavl.concepts.generate import generate
    from mavl.concepts.plan import make_order, make_plan
    from mavl.concepts.prompts import read_prompts

    settings = read_settings(arguments.overrides)
    prompts = read_prompts(Path(settings.prompts or PROMPTS))
    order = make_order(settings, names, arguments.out, prompts)
    if arguments.dry_run:
        plan = make_plan(order)
        print(f"{plan.estimate()}. Nothing was sent.")
        print(f"to ask: {', '.join(map(repr, plan.to_ask)) or 'nothing'}")
        return 0
    outcome = generate(order, Client(settings))
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
        print(f"{counted(written, 'finding')} to review: {arguments.review}")
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
