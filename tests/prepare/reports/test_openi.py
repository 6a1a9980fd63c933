"""Open-I's reports as XML: the format, damage, and files that try to do harm."""

import io
import tarfile

import pytest

from mavl.prepare.reports.openi import LARGEST, OpenIError, read_openi
from mavl.prepare.reports.sources import openi_studies
from tests.support.reports import report, write_archive

BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>
<eCitation><uId id="CXR9"/><major>&b;</major></eCitation>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<eCitation><uId id="CXR9"/><major>&a;</major></eCitation>"""


def test_a_report_has_sections_images_and_terms(tmp_path):
    (tmp_path / "1.xml").write_text(report("CXR1"))
    [found] = read_openi(tmp_path, [])
    assert found.study == "CXR1"
    assert found.sections == {
        "comparison": "",
        "indication": "Cough",
        "findings": "A nodule & no edema.",
        "impression": "Nodule.",
    }
    assert found.images == ["CXR1_IM-0001-1001", "CXR1_IM-0001-2001"]
    assert found.terms == {"major": ["Nodule/lung/left"], "automatic": ["nodules"]}


@pytest.mark.parametrize("place", ["archive", "folder with the archive", "folder"])
def test_the_archive_is_read_as_it_is_delivered(tmp_path, place):
    files = {f"ecgen-radiology/{number}.xml": report(f"CXR{number}") for number in (10, 9, 1)}
    if place == "folder":
        (tmp_path / "ecgen-radiology").mkdir()
        for name, text in files.items():
            (tmp_path / name).write_text(text)
    else:
        write_archive(tmp_path / "NLMCXR_reports.tgz", files)
    source = tmp_path / "NLMCXR_reports.tgz" if place == "archive" else tmp_path
    assert [found.study for found in read_openi(source, [])] == ["CXR1", "CXR9", "CXR10"]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".tgz", ".xml"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "document type"),
        (OUTSIDE, "document type"),
        ("<eCitation><uId id='CXR9'/>", "no element found"),
        ("<eCitation/>", "no uId"),
        ("", "no element found"),
        (b"<a>" + b" " * LARGEST + b"</a>", "bytes"),
        ("<a>" * 100_000, "no element found"),
        (b"\x00\xff", "syntax error"),
        ('<?xml version="1.0" encoding="foo"?><a/>', "unknown encoding"),
    ],
)
def test_a_file_that_is_no_report_becomes_a_problem(tmp_path, content, reason):
    archive = write_archive(tmp_path / "reports.tgz", {"1.xml": report("CXR1"), "../../2.xml": content})
    problems = []
    assert [found.study for found in read_openi(archive, problems)] == ["CXR1"]
    [(kind, where, detail)] = problems
    assert (kind, where) == ("file that is no report", "reports.tgz: ../../2.xml")
    assert reason in detail


def test_links_of_an_archive_are_not_followed(tmp_path):
    archive = write_archive(tmp_path / "reports.tar", {"1.xml": report("CXR1")})
    with tarfile.open(archive, "w") as file:
        link = tarfile.TarInfo("2.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        file.addfile(link)
        member = tarfile.TarInfo("1.xml")
        member.size = len(report("CXR1"))
        file.addfile(member, io.BytesIO(report("CXR1").encode()))
    problems = []
    assert len(read_openi(archive, problems)) == 1
    assert [problem.detail for problem in problems] == ["a link or a device"]


def test_the_second_report_of_a_study_is_listed(tmp_path):
    problems = []
    read_openi(write_archive(tmp_path / "r.tgz", {"1.xml": report("CXR1"), "2.xml": report("CXR1")}), problems)
    assert [(problem.kind, problem.where) for problem in problems] == [("study twice", "r.tgz: 2.xml")]


def test_the_second_report_of_an_image_is_labelled_without_it(tmp_path):
    archive = write_archive(
        tmp_path / "r.tgz", {"1.xml": report("CXR1"), "2.xml": report("CXR2").replace("CXR2_", "CXR1_")}
    )
    problems = []
    first, second = openi_studies(archive, problems)
    assert (len(first.images), second.images) == (2, [])
    detail = "CXR1_IM-0001-1001.png again, first at r.tgz: 1.xml, which counts"
    assert problems[0] == ("image twice", "r.tgz: 2.xml", detail)


def test_a_source_without_reports_is_refused(tmp_path):
    with pytest.raises(OpenIError, match=r"holds no \.xml file and no archive"):
        read_openi(tmp_path, [])
    write_archive(tmp_path / "r.tgz", {"1.xml": "<a/>"})
    with pytest.raises(OpenIError, match=r"holds no report of Open-I; the first problem: .*no uId"):
        read_openi(tmp_path, [])
    (tmp_path / "r.tgz").write_bytes((tmp_path / "r.tgz").read_bytes()[:40])
    with pytest.raises(OpenIError, match=r"r\.tgz: cannot be read to its end"):
        read_openi(tmp_path, [])
