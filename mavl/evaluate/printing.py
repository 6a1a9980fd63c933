"""What zero_shot_classify.py does with its settings: run one analysis, and print its tables."""

from rich.console import Console

from mavl.config.evaluation import ZeroShotSettings
from mavl.evaluate import classification, stress, wordings
from mavl.report.analyses.stress import table as stress_table
from mavl.report.analyses.wordings import spread_table, wording_table
from mavl.report.classification import table


def classify(settings: ZeroShotSettings) -> None:
    """The usual table."""
    if (result := classification.run(settings)) is not None:
        about = result.about
        title = f"{about['title']} ({about['split']}), {about['head']} head, {about['protocol']} protocol"
        caption = f"{about['training_images']} Thresholds: {about['thresholds']}.".lstrip()
        Console().print(table(result.evaluation, title, caption, about["new_findings"]))
        print(result.summary)
        print(f"table, scores, curves and page: {result.folder}")


def put_under_stress(settings: ZeroShotSettings) -> None:
    """A row for each stress."""
    if (result := stress.run(settings)) is not None:
        title = f"{result.about['title']} ({result.about['split']}), {result.about['head']} head: under stress"
        Console().print(stress_table(result, title))
        print(f"table: {result.folder}")


def compare_wordings(settings: ZeroShotSettings) -> None:
    """Each finding over the wordings, and the means under each wording."""
    if (result := wordings.run(settings)) is not None:
        title = f"{result.about['title']} ({result.about['split']}), {result.about['head']} head"
        console = Console()
        console.print(spread_table(result, f"{title}: each finding over the wordings"))
        console.print()
        console.print(wording_table(result, f"{title}: mean AUROC under each wording"))
        print(f"tables, plot and the books of every wording: {result.folder}")
