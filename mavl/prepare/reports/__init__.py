"""Reports with their images -> the label store that training reads, for any findings and without RadGraph.

    python prepare_data.py reports --csv reports.csv --image-column image --text-column report --out own_labels
    python prepare_data.py reports --openi NLMCXR_reports.tgz --out openi_labels --compare NLMCXR_reports.tgz
    python prepare_data.py reports ... --labeler llm --base-url http://localhost:8000/v1 --model qwen3

Reads a table (CSV, TSV or JSON lines, plain or gzip) with a row for each image, or Open-I's XML as it is delivered.
Rows of one study share its report. Writes, in --out,

    landmark_observation_adj_mtx.npy     int8 [studies, anatomies, findings]: 1 present, 0 absent, -1 unknown
    rad_graph_metric_{train,validate,test}.json     image -> row of its study, and its view (null: not known)
    vocabulary.json                      {"findings": [...], "anatomies": [...]}, the order of columns and rows
    sentences.jsonl                      line i: the JSON list of the sentences of the study of row i
    statistics.csv, statistics.png       number of studies with each finding present, and absent, at each anatomy
    problems.csv                         each row, file and image that was left out or repaired
    compare.csv, disagreements.csv       with --compare: agreement with other labels, and where it fails
    summary.json                         the numbers of all these, and the checksum of the labels

All files are replaced together at the end: a run that was killed changes nothing. The rule labeller takes about a
millisecond a report. A language model, on any OpenAI-compatible server, takes some 200 tokens in and 450 out, which
--dry-run counts. Its answers are kept as they arrive, and the same command requests only the rest. Exit code: 0; 2
where a run could not go on, 130 after Ctrl-C.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mavl.config.cli import override_flags
from mavl.config.data import LABELS
from mavl.config.loader import load
from mavl.files import FileError, write_text
from mavl.llm.settings import flags
from mavl.prepare.radgraph.labels import PROBLEMS, SUMMARY, Problem, replaced_together, write_problems
from mavl.prepare.radgraph.manifests import VIEWS
from mavl.prepare.reports.compare import compare, read_references
from mavl.prepare.reports.llm.settings import LabelSettings
from mavl.prepare.reports.protocol import Labeller
from mavl.prepare.reports.rules import RuleLabeller
from mavl.prepare.reports.sections import SECTIONS
from mavl.prepare.reports.sources import (
    Columns,
    Study,
    openi_studies,
    read_csv,
    report_leaks,
    require,
    share_out,
)
from mavl.prepare.reports.store import mentions_of, write_sentences, write_store
from mavl.prepare.reports.vocabulary import read_findings
from mavl.prepare.splits import SHARES
from mavl.progress import plural


class ArgumentsError(FileError):
    """Arguments that do not go together."""


def _rules(arguments: argparse.Namespace, findings: Sequence[str]) -> Labeller:
    if arguments.overrides:
        raise ArgumentsError(f"--{arguments.overrides[0].partition('=')[0]} is a setting of --labeler llm")
    return RuleLabeller(findings, arguments.sections)


def _language_model(arguments: argparse.Namespace, findings: Sequence[str]) -> Labeller:
    settings = load(LabelSettings, None, arguments.overrides)
    from mavl.prepare.reports.llm.labeller import LLMLabeller  # openai takes a second

    return LLMLabeller(settings, findings, arguments.sections)


LABELLERS: dict[str, Callable[[argparse.Namespace, Sequence[str]], Labeller]] = {
    "rules": _rules,
    "llm": _language_model,
}
"""How each labeller is built from the command line and the findings."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--csv", type=Path, metavar="FILE", help="table with a row for each image")
    source.add_argument("--openi", type=Path, metavar="PATH", help="Open-I's reports: a folder of XML, or the archive")
    parser.add_argument("--image-column", metavar="NAME", help="paths of the images below the config's data.root")
    parser.add_argument(
        "--text-column", nargs="+", metavar="NAME", help="of the report, or of each section, as in: findings impression"
    )
    parser.add_argument("--study-column", metavar="NAME", help="images of one report; without it each row is a study")
    parser.add_argument("--patient-column", metavar="NAME", help="kept together where the split is by hash")
    parser.add_argument("--split-column", metavar="NAME", help="train, validate or test; without it by hash")
    shares = ", ".join(f"{share:.0%} {split}" for split, share in SHARES.items()).replace("%", "%%")
    parser.add_argument("--seed", type=int, default=0, help=f"of the split by a hash of patient or study ({shares})")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument("--labeler", choices=LABELLERS, default="rules", help="%(default)s")
    parser.add_argument(
        "--sections", choices=SECTIONS, default="both", help="; ".join(map(": ".join, SECTIONS.items()))
    )
    parser.add_argument("--findings", nargs="+", default=[], metavar="NAME", help="or a file with a name in each line")
    parser.add_argument("--books", nargs="+", type=Path, default=[], metavar="FILE", help="whose findings are labelled")
    parser.add_argument("--views", choices=VIEWS, default="all", help="images to list: all (default), or PA and AP")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="PATH",
        help="a label store, a CSV of labels, or Open-I's reports with their terms",
    )
    override_flags(parser.add_argument_group("--labeler llm"), flags(LabelSettings))
    parser.add_argument("--dry-run", action="store_true", help="only count requests and tokens")


def run(arguments: argparse.Namespace) -> int:
    """0, also where rows have problems, which a person has to judge."""
    findings = read_findings(arguments.findings, arguments.books)
    problems: list[Problem] = []
    studies = _studies(arguments, problems)
    references = read_references(arguments.compare, studies, findings, arguments) if arguments.compare else []
    labeller = LABELLERS[arguments.labeler](arguments, findings)
    if arguments.dry_run:
        print(f"{labeller.estimate([study.report for study in studies])}. Nothing was sent.")
        return 0
    with replaced_together(arguments.out) as drafts:
        studies, found = mentions_of(studies, labeller, problems)
        require(studies, arguments.csv or arguments.openi, problems)
        numbers = write_store(drafts, studies, found, findings, VIEWS[arguments.views], problems)
        write_sentences(drafts, studies, arguments.sections, problems)
        agreement = compare(drafts, studies, found, findings, references) if references else {}
        write_problems(drafts, problems)
        summary = {
            "source": str(arguments.csv or arguments.openi),
            "labeler": labeller.name,
            "sections": arguments.sections,
            "findings": len(findings),
            "split": f"column {arguments.split_column!r}" if arguments.split_column else f"hash, seed {arguments.seed}",
            **numbers,
            **agreement,
            **labeller.describe(),
            "problems": dict(Counter(problem.kind for problem in problems).most_common()),
        }
        text = json.dumps(summary, indent=2)
        write_text(drafts / SUMMARY, f"{text}\n")
    print(text)
    print(f"{plural(len(studies), 'study')} in {arguments.out / LABELS}; sections read: {SECTIONS[arguments.sections]}")
    if empty := [split for split in ("train", "validate") if not numbers["images"][split]]:
        fix = "correct that column" if arguments.split_column else "give --split-column"
        print(f"no image in {' and '.join(empty)}, without which nothing is trained: {fix}")
    present = {mention.finding for of_study in found for mention in of_study if mention.status == "present"}
    if never := [name for name in findings if name not in present]:
        names = f"{', '.join(never[:5])}{', …' if len(never) > 5 else ''}"
        print(f"{plural(len(never), 'finding')} of {len(findings)} in no report: {names}")
    if problems:
        print(f"{plural(len(problems), 'problem')}, listed in {PROBLEMS}; the first: {': '.join(problems[0])}")
    return 0


def _studies(arguments: argparse.Namespace, problems: list[Problem]) -> list[Study]:
    """The studies of the source, each image with a split."""
    if arguments.openi:
        source, studies = arguments.openi, openi_studies(arguments.openi, problems)
    else:
        source = arguments.csv
        if not arguments.image_column or not arguments.text_column:
            raise ArgumentsError(f"{source}: --image-column and --text-column name the columns to read")
        columns = Columns(
            arguments.image_column,
            arguments.text_column,
            arguments.study_column,
            arguments.patient_column,
            arguments.split_column,
        )
        studies = read_csv(source, columns, problems)
    require(studies, source, problems)
    share_out(studies, arguments.seed)
    report_leaks(studies, problems)
    return studies
