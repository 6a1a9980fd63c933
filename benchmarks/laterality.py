"""Whether the location head tells left from right, by how flips treat the anatomies of labels: docs/protocols.md.

    python -m benchmarks.laterality --out runs/laterality                    an hour on one core
    python -m benchmarks.laterality --out runs/laterality --seeds 0 1 2

Trains the demo's configuration with a random text encoder, crops and flips, once for each of data.flips, and asks of
each finding present at a sided anatomy of 300 other phantoms whether that anatomy scores higher than its mirror image.
Runs that are complete are not made again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import binomtest

from mavl import checkpoint
from mavl.data import phantom
from mavl.data.images.transforms import EvalTransform, normalize
from mavl.vocab import ANATOMIES, FINDINGS, PRESENT, mirrored

FLIPS = ("none", "plain", "swap")
PHANTOMS, SEED = 300, 77
PARTNERS = mirrored(ANATOMIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    print(f"{'flips':8} seed  left or right is right")
    for seed in options.seeds:
        for flips in FLIPS:
            right, asked = accuracy(train(options.out / f"{flips}_{seed}", flips, seed, options.epochs))
            low, high = binomtest(right, asked).proportion_ci(method="wilson")
            shown = f"{right / asked:.3f} ({low:.3f} to {high:.3f}), {right} of {asked}"
            print(f"{flips:8} {seed:4}  {shown}", flush=True)


def train(folder: Path, flips: str, seed: int, epochs: int) -> Path:
    """The last model of a run, which is made or resumed."""
    if not (folder / "done").exists():
        settings = {
            "output_dir": folder,
            "text.encoder": "random",
            "text.scaling": "none",
            "data.augment": "crop",
            "data.min_crop": 0.6,
            "data.flips": flips,
            "schedule.epochs": epochs,
            "train.seed": seed,
            "train.monitor": "valid_loss",
        }
        overrides = [part for key, value in settings.items() for part in ("--override", f"{key}={value}")]
        line = [sys.executable, "train_mavl.py", "--config", "configs/demo.yaml", "--resume", *overrides]
        subprocess.run(line, check=True)
        (folder / "done").touch()
    return folder / checkpoint.LAST


@torch.inference_mode()
def accuracy(folder: Path) -> tuple[int, int]:
    """How often the stated anatomy scores higher than its mirror image, and of how many present findings."""
    loaded = checkpoint.load(folder)
    model, text = loaded.model, loaded.embeddings
    assert text is not None
    columns, transform = [FINDINGS.index(name) for name in text.findings], EvalTransform(model.preprocessing)
    right = asked = 0
    for index in range(PHANTOMS):
        made = phantom.draw(SEED, index, model.preprocessing.image_size)
        output = model(
            normalize(transform.pixels(Image.fromarray(made.image))[None], model.preprocessing), text.vectors
        )
        assert output.location_embedding is not None
        scores = (output.location_embedding[0] @ text.anatomy_vectors.T).numpy()
        present = made.labels[:, columns].T == PRESENT
        for finding, place in zip(*np.nonzero(present), strict=True):
            partner = PARTNERS[place]
            if partner != place and not present[finding, partner]:
                right += int(scores[finding, place] > scores[finding, partner])
                asked += 1
    return right, asked


if __name__ == "__main__":
    main()
