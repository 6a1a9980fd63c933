"""The centres of the grid's cells: a dot in the image changes most the cell whose centre is nearest to it."""

import pytest
import torch

from mavl.backbones import build_backbone
from mavl.backbones.protocol import patch_grid
from tests.support.encoders import ENCODERS, library_model, write_encoder

SIDE = {14: 140, 16: 128, 32: 256}
TIMM = {
    "test_vit": 16,
    "test_convnext": 32,
    "test_convnext2@2": 16,
    "test_resnet@3": 16,
    "test_efficientnet@3": 16,
    "swin_s3_tiny_224@2": 16,
    "densenet121@3": 16,
    "pvt_v2_b0@2": 16,
}


def nearest(backbone: torch.nn.Module, stride: int) -> tuple[list, list]:
    """Of dots at the centres of the inner cells: the cells, and those that change most, each (row, column).

    The image is a flat grey, and the change that of the whole channel vector, less the mean change of all cells, which
    global attention spreads.
    """
    side = SIDE[stride]
    centres = patch_grid(backbone, (side, side))
    cells, found = [], []
    with torch.no_grad():
        torch.manual_seed(0)
        image = torch.randn(1, 3, side, side) * 0.1
        before = backbone(image)[0]
        for row in range(1, side // stride - 1, 2):
            for column in range(1, side // stride - 1, 3):
                y, x = (round(centres.offset + index * centres.stride) for index in (row, column))
                dotted = image.clone()
                dotted[..., max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] += 4
                change = (backbone(dotted)[0] - before).norm(dim=1)[0]
                found.append(tuple(divmod(int(change.argmax()), change.shape[-1])))
                cells.append((row, column))
    return cells, found


@pytest.mark.parametrize("name", ENCODERS)
def test_a_dot_changes_its_own_cell_most(tmp_path, name):
    folder = write_encoder(tmp_path, name)
    stride = library_model(name).config.to_dict().get("patch_size", 4)
    stride = stride * 8 if stride == 4 else stride
    backbone = build_backbone(f"hf:{folder}", SIDE[stride])
    backbone.weights.load_state_dict(library_model(name).state_dict(), strict=False)
    cells, found = nearest(backbone.eval(), stride)
    assert backbone.stride == stride
    assert found == cells


@pytest.mark.parametrize("name", TIMM)
def test_so_it_is_in_timm(name):
    torch.manual_seed(0)
    backbone = build_backbone(f"timm:{name}", 256).eval()
    cells, found = nearest(backbone, TIMM[name])
    assert backbone.stride == TIMM[name]
    assert found == cells


@pytest.mark.parametrize(("name", "offset"), [("efficientnet_b0@3", 0), ("tf_efficientnet_b0@3", 15)])
def test_tensorflows_padding_moves_the_centres(name, offset):
    """Of the gradients of the cell (8, 8), the mean place in the input, over random weights."""
    places = []
    for seed in range(3):
        torch.manual_seed(seed)
        backbone = build_backbone(f"timm:{name}", 256).eval()
        image = torch.randn(1, 3, 256, 256, requires_grad=True)
        backbone(image)[0][..., 8, 8].square().sum().backward()
        weight = image.grad.abs().sum(dim=(0, 1))
        places += [float(weight.sum(dim=axis) @ torch.arange(256.0) / weight.sum()) for axis in (0, 1)]
    assert backbone.offset == offset
    assert sum(places) / len(places) == pytest.approx(offset + 8 * 16, abs=2)
