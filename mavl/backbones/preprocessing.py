"""How an image becomes a backbone's input: its side, its mean and standard deviation, its interpolation."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

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
        made = cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
        if not (isinstance(made.image_size, int) and made.image_size > 0):
            raise ValueError(f"image_size is {made.image_size!r}; expected a positive whole number")
        for name in ("mean", "std"):
            channels = getattr(made, name)
            if len(channels) != 3 or not all(isinstance(value, int | float) for value in channels):
                raise ValueError(f"{name} is {channels!r}; expected three numbers")
        if min(made.std) <= 0:
            raise ValueError(f"std is {made.std!r}; expected numbers above 0")
        if made.interpolation not in Interpolation.__args__:
            raise ValueError(f"interpolation is {made.interpolation!r}; expected {', '.join(Interpolation.__args__)}")
        return made

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
