"""Centring, scaling and whitening of text vectors: a linear map, fitted once to the sentences of a run.

The vectors of a language model lie in a narrow cone: their common part carries no information, and a few directions
hold most of their variance (Su et al. 2021, arXiv 2103.15316).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

ScalingName = Literal["none", "centre", "standardize", "whiten"]
SCALINGS: tuple[ScalingName, ...] = get_args(ScalingName)
SPREAD = 0.05
"""Standard deviation of each dimension after standardizing and whitening. Small vectors start the location scores, dot
products over the whole width, near zero."""
SMALLEST = 0.01
"""Of the mean standard deviation: dimensions with a smaller one are divided by this."""


@dataclass(frozen=True)
class Scaling:
    """x -> (x - offset [T]) · factor, which is [T] by dimension or a matrix [T, T]."""

    name: ScalingName
    offset: Tensor
    factor: Tensor

    def fits(self, width: int) -> bool:
        """Whether it is a finite map of vectors of this width."""
        shapes = tuple(self.offset.shape), tuple(self.factor.shape)
        finite = bool(self.offset.isfinite().all() and self.factor.isfinite().all())
        return finite and shapes in (((width,), (width,)), ((width,), (width, width)))

    def __call__(self, vectors: Tensor) -> Tensor:
        """vectors [..., T] -> [..., T], float32."""
        centred = vectors - self.offset.to(vectors.device)
        factor = self.factor.to(vectors.device)
        return centred @ factor if factor.ndim == 2 else centred * factor


def fit_scaling(name: ScalingName, vectors: Tensor) -> Scaling | None:
    """The map of this name for vectors [n, T], None for "none".

    centre: the mean becomes zero. standardize: and the standard deviation of each dimension SPREAD. whiten: and the
    dimensions uncorrelated; the covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004), since
    a run often has fewer sentences than dimensions, and its symmetric root keeps the dimensions in place.
    """
    if name == "none":
        return None
    exact = vectors.double()
    offset, centred = exact.mean(dim=0), exact - exact.mean(dim=0)
    if name == "centre":
        factor = torch.ones_like(offset)
    elif name == "standardize":
        spread = centred.std(dim=0, correction=0)
        factor = SPREAD / spread.clamp(min=SMALLEST * spread.mean().item())
    else:
        from sklearn.covariance import ledoit_wolf

        values, directions = torch.linalg.eigh(torch.from_numpy(ledoit_wolf(centred.numpy(), assume_centered=True)[0]))
        factor = SPREAD * (directions * values.rsqrt()) @ directions.T
    return Scaling(name, offset.float(), factor.float())
