"""Reports of tests: tables, Open-I's XML, and the command that labels them."""

import argparse
import csv
import io
import tarfile
from pathlib import Path

from mavl.prepare import reports

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="{study}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON"/>
<AbstractText Label="INDICATION">Cough</AbstractText>
<AbstractText Label="FINDINGS">A   nodule &amp;
 no edema.</AbstractText><AbstractText Label="IMPRESSION">Nodule.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>Nodule/lung/left</major><automatic>nodules</automatic></MeSH>
<parentImage id="{study}_IM-0001-1001"/><parentImage id="{study}_IM-0001-2001"/></eCitation>"""
COLUMNS = ("--image-column", "image", "--text-column", "report", "--study-column", "study", "--split-column", "split")


def write_archive(path: Path, files: dict[str, str | bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def report(study: str) -> str:
    return XML.format(study=study)


def write_csv(folder: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    path = folder / "reports.csv"
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def prepare(*arguments) -> None:
    """prepare_data.py reports with these arguments, in this process."""
    parser = argparse.ArgumentParser()
    reports.add_arguments(parser)
    assert reports.run(parser.parse_args(list(map(str, arguments)))) == 0


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
