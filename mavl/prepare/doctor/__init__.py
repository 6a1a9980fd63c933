"""Find the faults in the data of a config before a run meets them: a summary with fixes, JSON, an exit code.

    python prepare_data.py doctor --config configs/MAVL_resnet.yaml --root <MIMIC-CXR-JPG>
    python prepare_data.py doctor --config configs/benchmarks/rsna.yaml --root <RSNA> --decode --json doctor.json
    python prepare_data.py doctor --config configs/finetune_seg/siim_acr_mavl.yaml --limit 1000

Any config of the project: pre-training, zero-shot, grounding, fine-tuning, or a benchmark (all its splits).
Faults: paths, images and masks that are missing or cannot be read; columns, labels, rows and boxes that do not fit;
patients and files in two splits; the same file twice; and, by rules of thumb, images whose size, depth or brightness
is unlike the others', and lateral views. Turned and mirrored films are found by DICOM's orientation only: a rule by
symmetry finds 85 % of those that are turned, and mistakes 1.7 % of 7,530 upright ones.
Exit code 0: no faults; 1: faults; 2: the examination is not possible; 130: interrupted, with the faults until then.

Of every JPEG and plain DICOM the header is read (3 and 20 ms of a core for a full-size film), other formats whole;
brightness is measured on 500 images a split, or on all with --decode, which reads every pixel (2 ms of a core for a
JPEG of 512 pixels, 50 and more for a full-size film).
"""

import argparse
import os
from pathlib import Path

from rich.console import Console

from mavl.config.cli import INTERRUPTED, override_flags, positive
from mavl.prepare.doctor.exam import examine
from mavl.prepare.doctor.plan import read_plan
from mavl.prepare.doctor.report import KINDS, print_summary, write_report

FOUND = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="any YAML of the project")
    parser.add_argument("--root", type=Path, help="folder of the images, in place of the config's")
    override_flags(parser, {})
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every fault to this file")
    parser.add_argument("--decode", action="store_true", help="read every pixel, not only headers")
    parser.add_argument("--limit", type=positive, metavar="N", help="inspect N images of each split, evenly spaced")
    parser.add_argument("--workers", type=positive, default=min(16, os.cpu_count() or 1), help="threads (%(default)s)")
    parser.add_argument(
        "--ignore", nargs="+", default=(), choices=KINDS, metavar="KIND", help="leave out, such as lateral or odd_size"
    )


def run(arguments: argparse.Namespace) -> int:
    plan = read_plan(arguments.config, arguments.root, arguments.overrides)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    diagnosis = examine(plan, str(arguments.config), arguments.workers, arguments.limit, arguments.decode)
    kinds = [kind for kind in KINDS if kind in diagnosis.found and kind not in arguments.ignore]
    diagnosis.found = {kind: diagnosis.found[kind] for kind in kinds}
    print_summary(diagnosis, Console(), arguments.json)
    if arguments.json is not None:
        write_report(diagnosis, arguments.json)
    if not diagnosis.complete:
        return INTERRUPTED
    return FOUND if kinds else 0
