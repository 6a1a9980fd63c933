"""Values of settings that pass no check would end a run later: they are refused at once, with their key."""

import pytest

from mavl.config.evaluation import GroundingSettings, ZeroShotSettings
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import ConfigError, load
from mavl.config.settings import PretrainSettings

NEEDED = {
    PretrainSettings: [],
    FinetuneClsSettings: ["data.benchmark=x"],
    FinetuneSegSettings: ["data.benchmark=x"],
    ZeroShotSettings: ["benchmark=x"],
    GroundingSettings: ["benchmark=x"],
}


@pytest.mark.parametrize(
    ("schema", "override", "complaint"),
    [
        (PretrainSettings, "model.width=250", r"model.*: width 250 is not divisible by heads 4"),
        (PretrainSettings, "model.heads=3", r"model.*: width 256 is not divisible by heads 3"),
        (PretrainSettings, "train.seed=-1", r"train\.seed = -1"),
        (PretrainSettings, "train.seed=99999999999999999999", r"train\.seed = "),
        (PretrainSettings, "text.seed=-1", r"text\.seed = -1"),
        (PretrainSettings, "model.width=100000000", r"model\.width = "),
        (PretrainSettings, "model.layers=1000000", r"model\.layers = "),
        (PretrainSettings, "model.image_size=10000000", r"model\.image_size = "),
        (PretrainSettings, "model.aspects=[]", r"model\.aspects = "),
        (PretrainSettings, "model.aspects=[description, description]", r"aspects named twice: description"),
        (FinetuneClsSettings, "data.batch_size=1000000000000", r"data.*batch_size = "),
        (FinetuneSegSettings, "data.workers=100000", r"data.*workers = "),
        (PretrainSettings, "findings=[]", r"findings = "),
        (PretrainSettings, "findings=[edema, edema]", r"findings named twice: edema"),
        (PretrainSettings, "output_dir=''", r"output_dir = "),
        (FinetuneClsSettings, "data.findings=[edema, mass, edema]", r"findings named twice: edema"),
        (FinetuneClsSettings, "seeds=[-1]", r"seeds.* = -1"),
        (FinetuneSegSettings, "output_dir=''", r"output_dir = "),
        (ZeroShotSettings, "output_dir=''", r"output_dir = "),
        (GroundingSettings, "seed=-1", r"seed = -1"),
        (ZeroShotSettings, "findings=[a, a]", r"findings named twice: a"),
        (GroundingSettings, "layers=[0, 0, 1]", r"layers named twice: 0"),
        (GroundingSettings, "map_aspects=[shape, shape]", r"map_aspects named twice: shape"),
    ],
)
def test_a_value_that_would_end_a_run_later_is_refused_at_once(schema, override, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load(schema, None, [*NEEDED[schema], override])
