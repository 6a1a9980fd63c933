"""How the cost of reading an image grows: with the findings, its pixels and the number of images.

python -m benchmarks.growth        some 3 minutes on two cores

MAVL with a ResNet-50 as in `benchmarks.speed`; the images of the last table are files, read by `Predictor.stream`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed import measure
from benchmarks.steps import Case, resident_gib

FINDINGS = (75, 138, 300, 1000)
SIZES = (112, 224, 448)
IMAGES = (32, 128, 512)
BATCH = 4


def findings(device: str) -> None:
    print(f"  findings  queries  five asked: GFLOP, ms an image  all asked: GFLOP, ms an image (batch {BATCH}, fp32)")
    for number in FINDINGS:
        five, every = (
            measure(Case("inference", "fast", BATCH, "fp32", device, findings=number, every=every))
            for every in (False, True)
        )
        print(f"  {number:8}  {9 * number:7}  {_cost(five, 23)}  {_cost(every, 22)}", flush=True)


def pixels(device: str) -> None:
    print("  side in pixels  GFLOP, ms an image  ms a million pixels (75 findings, five asked)")
    for size in SIZES:
        case = measure(Case("inference", "fast", BATCH, "fp32", device, size=size))
        each = 1e9 / case["images_per_second"] / size**2
        print(f"  {size:14}  {_cost(case, 18)}  {each:19.0f}", flush=True)


def images() -> None:
    print("  images read  seconds  ms an image  peak memory")
    for number in IMAGES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.growth", str(number)], capture_output=True, text=True, check=True
        )
        told = json.loads(done.stdout.splitlines()[-1])
        each = 1000 * told["seconds"] / number
        print(f"  {number:11}  {told['seconds']:7.1f}  {each:11.1f}  {told['peak_gib']:7.2f} GiB", flush=True)


def read(number: int) -> dict:
    """Decode and read so many films of 512 pixels, asking for five findings; the time is without the first batch."""
    from mavl.cpu import keep_freed_memory

    keep_freed_memory()
    import torch
    from PIL import Image

    from benchmarks.steps import TARGETS
    from mavl.checkpoint.folder import Pretrained
    from mavl.data import phantom
    from mavl.model.mavl import MAVL
    from mavl.predict.pretrained import AvailableBooks, PretrainedPredictor
    from mavl.text.embeddings import TextEmbeddings
    from mavl.vocab import ASPECTS, FINDINGS

    torch.manual_seed(0)
    embeddings = TextEmbeddings(FINDINGS, ASPECTS, torch.randn(75, 9, 768), torch.randn(51, 768), {"books": {}})
    pretrained = Pretrained(MAVL(), embeddings, FINDINGS, {}, {"model": {}})
    predictor = PretrainedPredictor("random weights", pretrained, AvailableBooks(pretrained, (), ()), None, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.png"
        Image.fromarray(phantom.draw(0, 0, 512).image).save(path)
        request = predictor.request(TARGETS, explained=0)
        list(predictor.stream([path] * 8, request))
        start = time.perf_counter()
        answers = sum(1 for _ in predictor.stream([path] * number, request))
        return {"seconds": time.perf_counter() - start, "answers": answers, "peak_gib": resident_gib()}


def _cost(result: dict, width: int) -> str:
    if "error" in result:
        return result["error"]
    return f"{result['gflop_per_image']:.1f}, {1000 / result['images_per_second']:.0f}".rjust(width)


def main() -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    findings(device)
    pixels(device)
    images()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(read(int(sys.argv[1]))))
    else:
        main()
