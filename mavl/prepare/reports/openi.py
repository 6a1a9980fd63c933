"""Open-I's reports of the Indiana collection, as XML files in a folder or in the provider's archive.

A report is `uId@id`, `AbstractText@Label` (COMPARISON, INDICATION, FINDINGS, IMPRESSION), the coders' terms
`MeSH/major` ("Pulmonary Atelectasis/base/left") and `MeSH/automatic`, and an image a `parentImage@id`.
"""

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mavl.files import FileError
from mavl.prepare.radgraph.labels import Problem
from mavl.progress import plural

ARCHIVES = (".tgz", ".tar.gz", ".tar")
LARGEST, MOST = 1 << 20, 100_000
"""Most bytes of a report (the largest of the collection has 40,000), and most files of an archive."""


class OpenIError(FileError):
    """A folder or an archive that holds no report of Open-I."""


class OpenIReport(NamedTuple):
    """A report. where: its file; sections: {label in lower case: text}; terms: {"major", "automatic": terms}."""

    study: str
    where: str
    sections: dict[str, str]
    images: list[str]
    terms: dict[str, list[str]]


def is_openi(path: Path) -> bool:
    """Whether a path is an archive, or a folder that holds one or an XML file."""
    return _is_archive(path) or (path.is_dir() and next(_sources(path), None) is not None)


def read_openi(path: Path, problems: list[Problem]) -> list[OpenIReport]:
    """The reports by their numbers. A file that is no report becomes a problem, as does the second one of a study."""
    reports: dict[str, OpenIReport] = {}
    sources = list(_sources(path)) if path.is_dir() else [path]
    if not sources:
        raise OpenIError(f"{path}: holds no .xml file and no archive ({', '.join(ARCHIVES)}) of Open-I's reports")
    for source in sources:
        for where, content in _archived(source, problems) if _is_archive(source) else [_file(source, path)]:
            try:
                report = parse_report(content, where)
            except (ValueError, LookupError, expat.ExpatError) as error:  # LookupError: of an unknown encoding
                problems.append(Problem("file that is no report", where, str(error)))
                continue
            if reports.setdefault(report.study, report) is not report:
                problems.append(Problem("study twice", where, f"{report.study} again; the first file counts"))
    if not reports:
        first = f"; the first problem: {': '.join(problems[0])}" if problems else ""
        raise OpenIError(f"{path}: holds no report of Open-I{first}")
    return sorted(reports.values(), key=lambda report: (len(report.study), report.study))


def parse_report(content: bytes, where: str) -> OpenIReport:
    """The report in an XML file; ValueError, LookupError or ExpatError for another one; a DTD could hold anything."""
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} bytes")
    root = _parse(content)
    identity = root.find("uId")
    study = identity.get("id", "").strip() if identity is not None else ""
    if not study:
        raise ValueError("has no uId with an id")
    sections: dict[str, str] = {}
    for part in root.iter("AbstractText"):
        name, text = part.get("Label", "").strip().lower(), " ".join("".join(part.itertext()).split())
        sections[name] = f"{sections[name]} {text}" if name in sections else text
    images = [image for each in root.iter("parentImage") if (image := each.get("id", "").strip())]
    terms = {kind: [" ".join((each.text or "").split()) for each in root.iter(kind)] for kind in ("major", "automatic")}
    return OpenIReport(study, where, sections, images, {kind: list(filter(None, of)) for kind, of in terms.items()})


def _parse(content: bytes) -> Element:
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(content, True)
    return builder.close()


def _refuse(*_) -> None:
    raise ValueError("has a document type, which may define entities; Open-I's reports have none")


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES) and path.is_file()


def _sources(folder: Path) -> Iterator[Path]:
    """The XML files of a folder and below, or else its archives."""
    files = sorted(path for path in folder.rglob("*.xml") if path.is_file())
    yield from files or sorted(path for path in folder.iterdir() if _is_archive(path))


def _file(path: Path, folder: Path) -> tuple[str, bytes]:
    with open(path, "rb") as file:
        return str(path.relative_to(folder) if path != folder else path.name), file.read(LARGEST + 1)


def _archived(path: Path, problems: list[Problem]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each XML file of an archive; nothing is unpacked to the disk, and links are not followed."""
    try:
        with tarfile.open(path) as archive:
            for number, member in enumerate(archive):
                if number >= MOST:
                    raise OpenIError(f"{path}: more than {plural(MOST, 'file')}")
                if not member.name.lower().endswith(".xml") or member.isdir():
                    continue
                where = f"{path.name}: {member.name}"
                if not member.isreg():
                    problems.append(Problem("file that is no report", where, "a link or a device"))
                elif member.size > LARGEST:
                    problems.append(Problem("file that is no report", where, f"more than {LARGEST:,} bytes"))
                elif file := archive.extractfile(member):
                    yield where, file.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise OpenIError(f"{path}: cannot be read to its end ({why}); download it again") from error
