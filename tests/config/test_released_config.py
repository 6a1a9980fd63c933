"""Released YAML files: they mean the same here, and what is unknown or not offered is reported."""

import pytest

from mavl.config.loader import ConfigError, load
from mavl.config.released import translate_config
from mavl.config.settings import PretrainSettings
from mavl.vocab import ASPECTS

MAVL_YAML = """
train_file: 'labels/rad_graph_metric_train.json'
valid_file: 'labels/rad_graph_metric_validate.json'
test_file: 'labels/rad_graph_metric_test.json'
label_file: 'labels/landmark_observation_adj_mtx.npy'
disease_book: 'observation explanation.json'
concept_book: 'gpt4_mimic.json'
model: 'mavl'
image_res: 224
patch_size: 16
num_queries: 75
momentum: 0.995
batch_size: 128
temp: 0.07
d_model: 128
base_model: 'resnet18'
pretrained: True
decoder: cross
dropout: 0.2
attribute_set_size: 2
cl_global: 0.05
N: 3
H: 2
no_cl: False
self_attention: False
exclude_class: False
text_encoder: 'emilyalsentzer/Bio_ClinicalBERT'
optimizer: {opt: adamW, lr: 1e-4, weight_decay: 0.03}
schedular: {sched: cosine, lr: 1e-4, epochs: 40, min_lr: 2e-5, decay_rate: 1, warmup_lr: 3e-5, warmup_epochs: 5,
  cooldown_epochs: 0}
"""


@pytest.fixture
def read(tmp_path):
    """read(text, overrides) -> PretrainSettings of a YAML in the released format."""

    def read(text: str, *overrides: str) -> PretrainSettings:
        (tmp_path / "config.yaml").write_text(text)
        return load(PretrainSettings, tmp_path / "config.yaml", overrides, translate=translate_config)

    return read


def test_the_released_yaml_means_the_same_here(read):
    settings = read(MAVL_YAML)
    assert settings.recipe == "released"
    model = settings.model
    assert (model.backbone, model.image_size, model.width, model.layers, model.heads) == ("resnet18", 224, 128, 3, 2)
    assert (model.self_attention, model.contrastive, tuple(model.aspects)) == (False, True, ASPECTS)
    assert (model.dropout, model.feature_dropout) == (0.1, 0.2)
    assert settings.text.encoder == "emilyalsentzer/Bio_ClinicalBERT"
    assert tuple(settings.text.descriptions) == ("observation explanation.json",)
    assert tuple(settings.text.aspects) == ("gpt4_mimic.json",)
    assert (settings.data.source, settings.data.batch_size) == ("mimic", 128)
    assert settings.data.train_file == "labels/rad_graph_metric_train.json"
    assert settings.data.valid_file == "labels/rad_graph_metric_validate.json"
    assert settings.data.label_file == "labels/landmark_observation_adj_mtx.npy"
    assert settings.init.backbone == "imagenet"
    assert (settings.optimizer.lr, settings.optimizer.weight_decay) == (1e-4, 0.03)
    assert (settings.schedule.epochs, settings.schedule.min_lr, settings.schedule.warmup_lr) == (40, 2e-5, 3e-5)
    assert (settings.schedule.warmup_steps, settings.schedule.warmup_stair) == (500, 100)
    assert settings.train.contrastive_weight == 0.05


def test_overrides_use_the_keys_of_today(read):
    settings = read(MAVL_YAML, "data.batch_size=124", "init.backbone=none")
    assert (settings.data.batch_size, settings.init.backbone) == (124, "none")


def test_the_yaml_of_medklip_is_one_aspect_without_a_contrastive_head(read):
    settings = read("res_base_model: 'resnet50'\nd_model: 256\ndisease_book: 'book.json'\nbatch_size: 64\nN: 4\nH: 4\n")
    model, text = settings.model, settings.text
    assert (model.backbone, tuple(model.aspects), model.contrastive) == ("resnet50", ("description",), False)
    assert (tuple(text.descriptions), tuple(text.aspects), settings.data.batch_size) == (("book.json",), (), 64)


@pytest.mark.parametrize(
    ("line", "backbone"),
    [
        ("base_model: 'ViT-B/16'", "vit_b_16"),
        ("base_model: 'ViT-L/16'", "vit_l_16"),
        ("base_model: 'timm-vit_base_patch16_224.dino'\nlayers: ['blocks.9']", "timm:vit_base_patch16_224.dino@9"),
    ],
)
def test_released_names_of_vits(read, line, backbone):
    assert read(line).model.backbone == backbone


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("patch_sise: 16", "patch_sise"),
        ("learning_rate: 1e-4", "learning_rate"),
        ("optimizer: {opt: adamW, momentum: 0.9}", "momentum"),
        ("schedular: {epochs: 3, warm_up: 3}", "warm_up"),
        ("schedular: 40", "schedular"),
        ("optimizer: adamW", "optimizer"),
        ("pretrained: maybe", "pretrained"),
        ("d_model: wide", "width"),
        ("schedular: {warmup_epochs: five}", "warmup_steps"),
        ("optimizer: {opt: sgd}", "optimizer.opt is 'sgd'; of the released choices only 'adamw' is offered"),
        ("schedular: {sched: step}", "schedular.sched is 'step'"),
        ("no_cl: True", "no_cl is True"),
        ("no_cl: True\noptimizer: {opt: sgd}", "; optimizer.opt is 'sgd'"),
        ("decoder: slot", "decoder is 'slot'"),
        ("base_model: timm-vit_base_patch16_224", "layers is None; for timm-vit_base_patch16_224 it names one block"),
    ],
)
def test_what_is_unknown_or_not_offered_is_reported(read, line, problem):
    base = "" if line.startswith("base_model") else "base_model: resnet50\n"
    with pytest.raises(ConfigError) as error:
        read(base + line)
    assert problem in str(error.value)


def test_a_config_of_today_is_left_as_it_is():
    raw = {"model": {"width": 128}, "train": {"seed": 3}}
    assert translate_config(raw) == raw


def test_the_config_in_a_checkpoint_translates_with_its_worker_count():
    config = {"base_model": "resnet50", "num_workers": 4, "batch_size": 124}
    assert translate_config(config)["data"] == {"batch_size": 124, "workers": 4, "source": "mimic"}
