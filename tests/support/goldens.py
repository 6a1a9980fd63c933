"""What the golden files are drawn from: NumPy's PCG64, seeded by the CRC-32 of a name (see the goldens' own README)."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from mavl.checkpoint import released
from mavl.model import MAVL
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import ANATOMIES, ASPECTS, FINDINGS


def generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(("a" + name).encode())))


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return generator(name).standard_normal(shape).astype(np.float32)


def parameter(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    z = normal(key, shape)
    if key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(z)
    elif key.endswith("running_mean"):
        value = 0.1 * z
    elif key == "temp":
        value = np.full(shape, math.log(1 / 0.07))
    elif shape == (1,):
        value = np.full(shape, 0.25)
    elif len(shape) == 1:
        value = 1 + 0.1 * z if key.endswith(".weight") else 0.1 * z
    else:
        value = z / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def state(file: Path) -> dict[str, torch.Tensor]:
    """Every parameter that a golden's JSON names, drawn."""
    shapes = json.loads(file.read_text())["shapes"]
    return {key: parameter(key, tuple(shape)) for key, shape in shapes.items()}


def embeddings(aspects: int = len(ASPECTS)) -> TextEmbeddings:
    vectors = [[normal(f"text/{finding}/{a}", (768,)) for a in range(aspects)] for finding in FINDINGS]
    anatomies = [normal(f"text/{anatomy}", (768,)) for anatomy in ANATOMIES]
    about = {"encoder": "drawn", "books": {}}
    return TextEmbeddings(
        FINDINGS, ASPECTS[:aspects], torch.tensor(np.array(vectors)), torch.tensor(np.array(anatomies)), about
    )


def images(batch: int, size: int = 224) -> torch.Tensor:
    return torch.from_numpy(normal("noise/images", (batch, 3, size, size)))


def build(file) -> tuple[MAVL, dict]:
    _, arguments, weights = released.convert(state(file), {}, file.name)
    model = MAVL(**arguments).eval()
    model.load_state_dict(weights)
    return model, arguments


def close(actual: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Relative to the largest value: single entries near zero carry the rounding of the large ones."""
    expected = torch.from_numpy(np.asarray(expected))
    scale = expected.abs().max()
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)
