"""Heatmaps against the released model's, and worked by hand on a small attention."""

import numpy as np
import pytest
import torch

from mavl.backbones import PatchGrid, build_backbone
from mavl.checkpoint import released
from mavl.model.heatmaps import HeatmapError, MapOptions, aspect_maps, centre_map, enlarge, heatmaps, random_map
from mavl.model.mavl import MAVL, MAVLOutput
from mavl.text.embeddings import TextEmbeddings
from tests.support import goldens

CENTRES = PatchGrid(0.0, 16, (16, 32))
ASPECTS = ("description", "border", "shape")
ABOUT = {"encoder": "e", "books": {}}
EMBEDDINGS = TextEmbeddings(("edema", "mass"), ASPECTS, torch.zeros(2, 3, 4), torch.zeros(51, 4), ABOUT)

# Two layers, one image, the queries edema/description … mass/shape, and a grid of 1 × 2 patches.
FIRST = [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.5, 0.5], [0.6, 0.4]]
SECOND = [[0.5, 0.5], [0.2, 0.8], [0.1, 0.9], [0.0, 1.0], [0.7, 0.3], [1.0, 0.0]]


def output(attention: tuple | None, grid=(1, 2)) -> MAVLOutput:
    nothing = torch.empty(0)
    return MAVLOutput(nothing, nothing, nothing, torch.zeros(1, 4, *grid), None, None, attention, CENTRES)


TWO_LAYERS = output(tuple(torch.tensor([layer]) for layer in (FIRST, SECOND)))


def close(actual: torch.Tensor, expected) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=0, atol=1e-6)


def test_layers_are_averaged_first_then_the_aspects():
    """mass: description (0.2, 0.8), shape (0.8, 0.2); edema: description (0.3, 0.7), shape (0.2, 0.8)."""
    asked = {"aspects": ("description", "shape")}
    close(heatmaps(TWO_LAYERS, EMBEDDINGS, ["mass", "edema"], MapOptions(**asked)), [[[[0.5, 0.5]], [[0.25, 0.75]]]])
    close(
        heatmaps(TWO_LAYERS, EMBEDDINGS, ["mass", "edema"], MapOptions(aggregation="max", **asked)),
        [[[[0.8, 0.8]], [[0.3, 0.8]]]],
    )
    close(
        heatmaps(TWO_LAYERS, EMBEDDINGS, ["mass", "edema"], MapOptions(aggregation="global", **asked)),
        [[[[0.2, 0.8]], [[0.3, 0.7]]]],
    )


def test_one_layer_alone():
    close(heatmaps(TWO_LAYERS, EMBEDDINGS, ["edema"], MapOptions(aspects=("shape",), layers=(1,))), [[[[0.1, 0.9]]]])


def test_aspect_maps_come_in_the_order_asked():
    close(aspect_maps(TWO_LAYERS, EMBEDDINGS, ["edema"], ("shape", "border")), [[[[[0.2, 0.8]], [[0.2, 0.8]]]]])
    close(aspect_maps(TWO_LAYERS, EMBEDDINGS, ["mass"], ("shape", "border")), [[[[[0.8, 0.2]], [[0.6, 0.4]]]]])


@pytest.mark.parametrize("aggregation", ["avg", "max", "global"])
def test_a_model_of_one_aspect_has_one_map(aggregation):
    embeddings = TextEmbeddings(("edema", "mass"), ("description",), torch.zeros(2, 1, 4), torch.zeros(51, 4), ABOUT)
    one = output((torch.tensor([[[0.1, 0.9], [0.3, 0.7]]]),))
    close(heatmaps(one, embeddings, ["mass"], MapOptions(aggregation=aggregation)), [[[[0.3, 0.7]]]])


@pytest.mark.parametrize(
    ("known", "options", "used"),
    [
        # of one aspect: always that one
        (("description",), {"aspects": ("shape",)}, ("description",)),
        (("border",), {"aggregation": "global"}, ("border",)),
        # of two
        (("description", "border"), {}, ("description",)),
        (("description", "border"), {"aspects": ("border",)}, ("border",)),
        (("description", "border"), {"aggregation": "global"}, ("description",)),
        (("border", "fluid"), {}, ("border", "fluid")),
        # of more
        (ASPECTS, {}, ("description", "shape")),
        (ASPECTS, {"aspects": ("shape", "border"), "aggregation": "max"}, ("shape", "border")),
        (ASPECTS, {"aspects": ("border",), "aggregation": "global"}, ("description",)),
    ],
)
def test_the_aspects_of_a_map(known, options, used):
    assert MapOptions(**options).used_aspects(known) == used


def test_patches_are_laid_out_row_by_row():
    attention = torch.tensor([[[0.0, 0.1, 0.2, 0.3, 0.15, 0.25]] * 6])
    close(
        heatmaps(output((attention,), (2, 3)), EMBEDDINGS, ["mass"], MapOptions(aggregation="global"))[0, 0],
        [[0.0, 0.1, 0.2], [0.3, 0.15, 0.25]],
    )


def test_half_precision_is_averaged_in_full():
    half = output(tuple(torch.tensor([layer], dtype=torch.float16) for layer in (FIRST, SECOND)))
    assert (
        heatmaps(half, EMBEDDINGS, ["mass"], MapOptions(aggregation="max", aspects=("shape",))).dtype == torch.float32
    )


def test_the_mean_of_half_precision_layers_is_not_rounded():
    """0.5 and 0.50390625 are neighbours in bf16; their mean is between them."""
    pair = torch.tensor([[0.5, 0.5], [0.50390625, 0.49609375]])
    layers = [value.expand(1, len(EMBEDDINGS.findings) * 3, 2).bfloat16() for value in pair]
    found = heatmaps(output(tuple(layers)), EMBEDDINGS, ["mass"], MapOptions(aspects=("shape",)))
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == [0.501953125, 0.498046875]


@pytest.mark.parametrize(
    ("chosen", "asked", "message"),
    [
        (output(None), {}, "return_attention=True"),
        (TWO_LAYERS, {"aspects": ("patterns",)}, r"unknown aspect 'patterns'; known: description, border, shape"),
        (TWO_LAYERS, {"aspects": ("shape",), "layers": (0, 2)}, "no decoder layer 2, only 0 to 1"),
        (TWO_LAYERS, {"aggregation": "mean"}, r"unknown aggregation 'mean'"),
    ],
)
def test_maps_that_there_are_not(chosen, asked, message):
    with pytest.raises(HeatmapError, match=message):
        heatmaps(chosen, EMBEDDINGS, ["edema"], MapOptions(**asked))


def test_by_default_a_model_without_some_grounding_aspects_uses_the_others():
    used = heatmaps(TWO_LAYERS, EMBEDDINGS, ["edema"], MapOptions(aspects=("description", "shape")))
    close(heatmaps(TWO_LAYERS, EMBEDDINGS, ["edema"]), used)


def test_a_finding_that_is_not_in_the_bank():
    with pytest.raises(KeyError, match="unknown finding 'masss'; did you mean 'mass'"):
        heatmaps(TWO_LAYERS, EMBEDDINGS, ["masss"], MapOptions(aspects=("shape",)))


def test_corners_stay_where_they_are():
    """Corners aligned: 3 pixels across 2 patches have the middle one halfway."""
    close(enlarge(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]), (3, 3))[0, 0], [[0, 0.5, 1], [1, 2, 3], [2, 3.5, 5]])


@pytest.mark.parametrize(
    ("patch_grid", "expected"),
    [
        # patches on pixels 0 and 4: pixel p takes p/4 of the second, and beyond its centre all of it
        (PatchGrid(0.0, 4, (1, 8)), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        # patches of 4 pixels with their middles on 1.5 and 5.5
        (PatchGrid(1.5, 4, (1, 8)), [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]),
        # the picture shows an input of 16 pixels: its pixel p is the input's 2p + 0.5, patches are on 0 and 8
        (PatchGrid(0.0, 8, (1, 16)), [0.0625, 0.3125, 0.5625, 0.8125, 1, 1, 1, 1]),
    ],
)
def test_patches_stay_where_they_look(patch_grid, expected):
    close(enlarge(torch.tensor([[[[0.0, 1.0]]]]), (1, 8), patch_grid)[0, 0], [expected])


@pytest.mark.parametrize("name", ["resnet18", "resnet18@layer2", "timm:test_vit"])
def test_a_patch_answers_most_to_the_pixels_around_its_centre(name):
    """The pixel that the gradient of a patch weighs around is the one that the backbone says it is centred on."""
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    images = torch.randn(8, 3, 320, 320, requires_grad=True)
    if name.startswith("resnet"):
        grid, _ = backbone(images)
    else:  # behind the embedding every patch sees all the others
        grid = backbone.vit.patch_embed(images).movedim(-1, 1)
    patch = grid.shape[-1] // 2
    (grid[:, :, patch, patch] * torch.randn(8, grid.shape[1])).sum().backward()
    weight = images.grad.pow(2).sum(dim=(0, 1, 2))
    centre = (weight * torch.arange(320)).sum() / weight.sum()
    assert centre.item() == pytest.approx(backbone.offset + patch * backbone.stride, abs=0.2 * backbone.stride)


def test_maps_equal_the_released_ones(shared):
    expected = np.load(shared("goldens/zero_shot.npz"))
    file = shared("goldens/train.json")
    _, arguments, state = released.convert(goldens.state(file), {}, file.name)
    model = MAVL(**arguments).eval()
    model.load_state_dict(state)
    embeddings = goldens.embeddings()
    with torch.no_grad():
        computed = model(goldens.images(2), embeddings.vectors, return_attention=True)
    maps = heatmaps(computed, embeddings, ["pneumothorax", "pneumonia"])
    sample = enlarge(maps, (224, 224))[..., ::16, ::16]
    for actual, name in ((maps, "heatmap14"), (sample, "heatmap_sample")):
        released_maps = torch.from_numpy(expected[name])
        torch.testing.assert_close(actual, released_maps, rtol=0, atol=1e-5 * released_maps.max().item())


def test_the_random_map_is_noise_from_its_seed():
    noise = random_map((14, 14), seed=(3, 5))
    assert (noise == random_map((14, 14), seed=(3, 5))).all()
    assert not (noise == random_map((14, 14), seed=(3, 6))).any()
    assert noise.sum() == pytest.approx(1, abs=1e-6)
    assert 0 <= noise.min() < 0.1 / 196 < 1.8 / 196 < noise.max() < 2.3 / 196  # from 0 to about twice the mean


def test_the_centre_map_is_a_gaussian_of_a_quarter_of_the_side():
    blob = centre_map((8, 4))
    assert blob.sum() == pytest.approx(1, abs=1e-6)
    assert (blob == blob[::-1]).all()
    assert (blob == blob[:, ::-1]).all()
    # Down the 8 rows, those next to the middle lie 1/16 off, the last ones 7/16: exp(-(1/4)² / 2) and exp(-(7/4)² / 2).
    assert blob[0, 1] / blob[3, 1] == pytest.approx(np.exp(-(49 - 1) / 16 / 2), rel=1e-5)
    # Across the 4 columns, 1/8 and 3/8 off.
    assert blob[3, 0] / blob[3, 1] == pytest.approx(np.exp(-(9 - 1) / 4 / 2), rel=1e-5)
