"""Small models in the released format."""

from pathlib import Path

import numpy as np
import torch

from mavl.model import MAVL

SMALL = {"text_width": 12, "width": 16, "layers": 2, "heads": 4, "feedforward": 24}


TO_RELEASED = (
    ("backbone.vit.", "backbone."),
    ("backbone.conv1.", "backbone.0."),
    ("backbone.bn1.", "backbone.1."),
    ("backbone.layer1.", "backbone.4."),
    ("backbone.layer2.", "backbone.5."),
    ("backbone.layer3.", "backbone.6."),
    ("query_projection.", "disease_embedding_layer."),
    ("grid_projection.0.", "res_l1.0."),
    ("grid_projection.1.", "res_l1.1."),
    ("grid_projection.2.", "res_l2."),
    (".cross_attn.", ".multihead_attn."),
    ("location_head.", "location_emb."),
    ("presence_head.", "classifier."),
    ("logit_scale", "temp"),
)


def released(state: dict[str, torch.Tensor], path: Path, **config) -> Path:
    """A file as the release saves it, after training in several processes."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    content = {
        "model": {f"module.{name}": value for name, value in state.items()},
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"base_values": [1e-4], "_get_lr": np.float64(3e-5), "epoch": np.int64(46)},
        "config": {"base_model": "resnet50", "d_model": 256, "H": 4, "dropout": 0.1} | config,
        "epoch": 46,
    }
    torch.save(content, path)
    return path


def build(backbone: str = "resnet18", **changed) -> tuple[MAVL, dict[str, torch.Tensor]]:
    """A small model and its state under released names."""
    torch.manual_seed(0)
    model = MAVL(backbone=backbone, **SMALL | changed).eval()
    torch.nn.init.normal_(model.presence_head.bias)
    state = {}
    for name, value in model.state_dict().items():
        if backbone.startswith("timm:"):
            name = name.replace("pool.", "global_l.")
        for ours, theirs in TO_RELEASED:
            name = name.replace(ours, theirs)
        state[name] = value
    return model, state
