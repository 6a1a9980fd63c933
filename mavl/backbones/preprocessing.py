"""How an image becomes a backbone's input: its side, its mean and standard deviation, its interpolation."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize to image_size × image_size by `interpolation`, then (pixel / 255 - mean) / std for each of 3 channels.

    It belongs to the backbone, is stored with every model, and every transform uses it. The default mean and standard
    deviation are those of ImageNet, with which the released models were trained.
    """

    image_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; lists serve as tuples. TypeError for an unknown key, ValueError for a bad value."""
        arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        made, methods = cls(**arguments), get_args(Interpolation)
        known = isinstance(made.image_size, int) and made.image_size > 0 and made.interpolation in methods
        if not (known and _of_channels(made.mean) and _of_channels(made.std) and min(made.std) > 0):
            expected = f"a positive image_size, mean and std of three numbers, std above 0, {' or '.join(methods)}"
            raise ValueError(f"{values}; expected {expected}")
        return made

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _of_channels(values: Any) -> bool:
    numbers = isinstance(values, tuple) and all(isinstance(value, int | float) for value in values)
    return numbers and len(values) == 3 and all(map(math.isfinite, values))
