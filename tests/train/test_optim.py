"""The learning rate at the steps that matter, worked by hand, and weight decay on matrices alone."""

import json
import math

import pytest
import torch
from torch import nn

from mavl.config.loader import ConfigError, load
from mavl.config.settings import PretrainSettings
from mavl.model.mavl import MAVL
from mavl.train.optim import average_weights, build_optimizer, build_scheduler, learning_rate
from tests.support.processes import ROOT

FULL = {
    "lr": 1e-4,
    "min_lr": 1e-5,
    "warmup_lr": 1e-5,
    "warmup_steps": 500,
    "warmup_stair": 100,
    "epochs": 60,
    "steps_per_epoch": 760,
}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-5),
        (99, 1e-5),
        (100, 2.8e-5),  # a fifth of the way from 1e-5 to 1e-4
        (199, 2.8e-5),
        (499, 8.2e-5),
        (500, 1e-4),
        (759, 1e-4),
        (760, 1e-5 + 9e-5 * (1 + math.cos(math.pi / 59)) / 2),
        (1519, 1e-5 + 9e-5 * (1 + math.cos(math.pi / 59)) / 2),
        (58 * 760, 1e-5 + 9e-5 * (1 - math.cos(math.pi / 59)) / 2),
        (59 * 760, 1e-5),
        (60 * 760 - 1, 1e-5),
        (60 * 760, 1e-5),
    ],
)
def test_the_full_recipe_by_hand(step, rate):
    assert learning_rate(step, **FULL) == pytest.approx(rate, rel=1e-12)


def test_the_middle_epoch_is_half_way():
    rates = [learning_rate(step, **FULL | {"epochs": 3, "warmup_steps": 0}) for step in (0, 760, 1520)]
    assert rates == pytest.approx([1e-4, 5.5e-5, 1e-5])


def test_a_warm_up_longer_than_an_epoch_goes_on():
    short = FULL | {"steps_per_epoch": 300, "epochs": 11}
    assert learning_rate(499, **short) == pytest.approx(8.2e-5)
    assert learning_rate(500, **short) == pytest.approx(1e-5 + 9e-5 * (1 + math.cos(math.pi / 10)) / 2)


def test_a_single_epoch_stays_at_the_full_rate():
    assert learning_rate(759, **FULL | {"epochs": 1}) == 1e-4


def test_pre_training_refuses_a_rate_that_would_climb():
    with pytest.raises(ConfigError, match=r"schedule\.min_lr \(1e-05\) above optimizer\.lr \(1e-06\)"):
        load(PretrainSettings, None, ["optimizer.lr=1e-6", "schedule.warmup_steps=0"])
    load(PretrainSettings, None, ["optimizer.lr=1e-6", "schedule.warmup_steps=0", "schedule.min_lr=1e-6"])


@pytest.mark.parametrize("name", ["MAVL_resnet", "MAVL_short"])
def test_the_released_rates_to_1e_12(shared, name):
    """Of the rates that the released code sets, with this project's config of the same name."""
    golden = json.loads(shared("goldens/schedule.json").read_text())[f"{name}.yaml"]
    settings = load(PretrainSettings, ROOT / "configs" / f"{name}.yaml")
    assert settings.recipe == "released"
    rates = settings.schedule.model_dump() | {"lr": settings.optimizer.lr, "steps_per_epoch": golden["steps_per_epoch"]}
    for step, rate in golden["rate_at_step_of_epoch_0"].items():
        assert learning_rate(int(step), **rates, released=True) == pytest.approx(rate, rel=0, abs=1e-12)
    for epoch, rate in enumerate(golden["rate_by_epoch"][1:], start=1):
        for step in (epoch * 700, epoch * 700 + 699):
            assert learning_rate(step, **rates, released=True) == pytest.approx(rate, rel=0, abs=1e-12)


def test_as_released_a_short_first_epoch_ends_the_warm_up():
    schedule = FULL | {"steps_per_epoch": 300, "epochs": 4, "released": True}
    rates = [learning_rate(step, **schedule) for step in (0, 100, 101, 299, 300, 1199)]
    middle = 1e-5 + 9e-5 * (1 + math.cos(math.pi / 4)) / 2
    last = 1e-5 + 9e-5 * (1 + math.cos(3 * math.pi / 4)) / 2
    assert rates == pytest.approx([1e-5, 1e-5, 2.8e-5, 4.6e-5, middle, last], rel=1e-12)


def test_the_scheduler_sets_what_the_function_says():
    schedule = FULL | {"warmup_steps": 20, "warmup_stair": 5, "epochs": 4, "steps_per_epoch": 30}
    optimizer = build_optimizer(nn.Linear(2, 2), lr=1e-4, weight_decay=0.02)
    scheduler = build_scheduler(optimizer, **schedule)
    for step in range(4 * 30):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([learning_rate(step, **schedule)] * 2, rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_every_parameter_is_in_one_group_and_only_matrices_decay():
    model = MAVL(backbone="resnet18", image_size=64, text_width=8, width=8, layers=1, heads=2, feedforward=8)
    model.query_projection.weight.requires_grad_(False)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, lr=0.1, weight_decay=0.02).param_groups
    decayed, spared = ({names[p] for p in group["params"]} for group in groups)
    assert decayed | spared == set(names.values()) - {"query_projection.weight"}
    assert not decayed & spared
    assert {"backbone.conv1.weight", "pool.positional_embedding", "location_head.weight"} <= decayed
    one_dimensional = {"backbone.bn1.weight", "decoder.norm.weight", "grid_projection.1.weight", "logit_scale"}
    assert one_dimensional | {"query_projection.bias", "decoder.layers.0.self_attn.in_proj_bias"} <= spared
    assert [group["weight_decay"] for group in groups] == [0.02, 0.0]


def test_a_step_without_gradients_shrinks_matrices_by_lr_times_decay():
    layer = nn.Linear(3, 2)
    before = {name: value.detach().clone() for name, value in layer.named_parameters()}
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(layer, lr=0.1, weight_decay=0.02).step()
    torch.testing.assert_close(layer.weight, before["weight"] * (1 - 0.1 * 0.02))
    torch.testing.assert_close(layer.bias, before["bias"], rtol=0, atol=0)


class Tower(nn.Module):
    """Three blocks with a reduction before the last one; a stem, a final norm and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential()
        for name in ("stem", "first", "second", "reduction", "third", "norm"):
            self.backbone.append(nn.Linear(2, 2))
            self.backbone[-1].name = name
        self.backbone.blocks = [self.backbone[1], self.backbone[2], self.backbone[4]]
        self.head = nn.Linear(2, 1)

    def rates(self, **options) -> dict[str, float]:
        """{name of the layer: the rate of its weight}, of an optimizer in its first step."""
        groups = build_optimizer(self, weight_decay=0.02, **options).param_groups
        rate = {parameter: group["lr"] for group in groups for parameter in group["params"]}
        assert len(rate) == sum(len(group["params"]) for group in groups) == 14
        layers = {layer.name: layer for layer in self.backbone} | {"head": self.head}
        assert all(rate[layer.weight] == rate[layer.bias] for layer in layers.values())
        return {name: rate[layer.weight] for name, layer in layers.items()}


def test_a_rate_of_the_backbone_alone():
    rates = Tower().rates(lr=1e-3, backbone_lr=1e-4)
    assert rates.pop("head") == 1e-3
    assert set(rates.values()) == {1e-4}


def test_layer_decay_by_hand():
    """As of BEiT: 3 blocks, so that the stem is four times removed from what follows the last block."""
    rates = Tower().rates(lr=1e-3, backbone_lr=1e-4, layer_decay=0.5)
    expected = {"stem": 1e-4 / 16, "first": 1e-4 / 8, "second": 1e-4 / 4, "reduction": 1e-4 / 4, "third": 1e-4 / 2}
    assert rates == pytest.approx(expected | {"norm": 1e-4, "head": 1e-3})
    assert Tower().rates(lr=1e-3, layer_decay=0.5)["third"] == pytest.approx(5e-4)


def test_the_schedule_scales_each_rate_and_decay_stays_on_matrices():
    schedule = FULL | {"warmup_steps": 20, "warmup_stair": 5, "epochs": 4, "steps_per_epoch": 30}
    optimizer = build_optimizer(Tower(), lr=1e-4, weight_decay=0.02, backbone_lr=1e-5, layer_decay=0.5)
    scheduler = build_scheduler(optimizer, **schedule)
    first = [group["initial_lr"] for group in optimizer.param_groups]
    assert first[:2] == [1e-4, 1e-4]
    for group in optimizer.param_groups:
        assert {parameter.ndim for parameter in group["params"]} == ({2} if group["weight_decay"] else {1})
    for step in range(60):
        scale = learning_rate(step, **schedule) / 1e-4
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rate * scale for rate in first], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_frozen_backbone_is_in_no_group():
    tower = Tower()
    tower.backbone.requires_grad_(False)
    groups = build_optimizer(tower, lr=0.1, weight_decay=0.02).param_groups
    assert [len(group["params"]) for group in groups] == [1, 1]


def test_an_average_keeps_its_share_of_weights_and_of_batchnorm_statistics():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = average_weights(model, kept=0.25)
    for value in (4.0, 8.0, 16.0):
        with torch.no_grad():
            model[0].weight.fill_(value)
            model[1].running_mean.fill_(-value)
        average.update_parameters(model)
    # the first is taken as it is; after one step it keeps 2/11 of 4, after two 3/12 = 0.25 of that
    expected = 0.25 * (4 * 2 / 11 + 8 * 9 / 11) + 0.75 * 16
    assert average.module[0].weight.item() == pytest.approx(expected)
    assert average.module[1].running_mean.item() == pytest.approx(-expected)
    assert model[0].weight.item() == 16


def test_an_average_keeps_no_more_than_asked_for():
    model = nn.Linear(1, 1, bias=False)
    average = average_weights(model, kept=0.1)
    for value in (0.0, 10.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(9)  # not 2/11, which is more
