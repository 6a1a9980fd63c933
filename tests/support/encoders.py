"""Vision models of transformers, small and with random weights, saved as their library saves them."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 56}
STAGES = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1]}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 2, "image_size": 64}
ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dinov2": ("Dinov2Model", "Dinov2Config", VIT | {"patch_size": 14, "mlp_ratio": 2}),
    "registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", VIT | {"patch_size": 14, "mlp_ratio": 2}),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", VIT | {"patch_size": 16, "num_register_tokens": 4}),
    "dinov3_convnext": ("DINOv3ConvNextModel", "DINOv3ConvNextConfig", STAGES),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", VIT | {"patch_size": 14}),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", VIT | {"patch_size": 14}),
    "vit": ("ViTModel", "ViTConfig", VIT | {"patch_size": 14}),
    "swin": ("SwinModel", "SwinConfig", SWIN),
    "convnext": ("ConvNextModel", "ConvNextConfig", STAGES),
    "convnextv2": ("ConvNextV2Model", "ConvNextV2Config", STAGES),
}
"""{name: (class, class of its config, arguments of the config)}"""

SIDES = {"dinov2": 56, "registers": 56, "siglip": 56, "clip": 56, "vit": 56}
"""{name: side of its images in pixels}, 64 for the others."""

PROCESSOR = {
    "do_convert_rgb": None,
    "do_resize": True,
    "size": {"shortest_edge": 64},
    "do_center_crop": True,
    "crop_size": {"height": 64, "width": 64},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.5307, 0.5307, 0.5307],
    "image_std": [0.2583, 0.2583, 0.2583],
    "image_processor_type": "BitImageProcessor",
}
"""Of preprocessor_config.json, as RAD-DINO has it but for the side."""


def library_model(name: str) -> Any:
    """The library's model in evaluation mode; its weights are wider than at the start, so that places differ."""
    kind, config, arguments = ENCODERS[name]
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**arguments)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return model


def write_encoder(folder: Path, name: str) -> Path:
    """The folder of a model and its processor, and nothing of the network."""
    library_model(name).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def side(name: str) -> int:
    return SIDES.get(name, 64)
