"""Vision models of Hugging Face transformers as image encoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mavl.backbones.preprocessing import Interpolation, Preprocessing
from mavl.backbones.protocol import BackboneError, check_side, check_sides
from mavl.files import FileError, read_json, write_json
from mavl.vocab import unknown_name

PREFIX = "hf:"
MODELS = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "dinov3_convnext": "DINOv3ConvNextModel",
    "siglip_vision_model": "SiglipVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "vit": "ViTModel",
    "swin": "SwinModel",
    "convnext": "ConvNextModel",
    "convnextv2": "ConvNextV2Model",
}
"""{model_type of a config: class of transformers}; those of two towers, siglip and clip, give their vision model."""

FIRST_TOKEN = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")
"""Models whose first token is the class token."""
POOLED = ("siglip_vision_model", "clip_vision_model")
"""Models with a trained pooled output in place of a class token: attention pooling, or a norm of the first token."""
WITH_POSITIONS = ("siglip_vision_model", "clip_vision_model", "vit")
"""Models that interpolate their positions only by an argument; the others always do, or have none."""
WITHOUT_POOLER = ("vit", "swin")
"""Models that are built without the pooling layer, which is often random, or is a mean."""

CONFIG, PROCESSORS = "config.json", ("preprocessor_config.json", "processor_config.json")
LEFT_OUT = "auto_map attn_implementation _attn_implementation quantization_config dtype torch_dtype".split()
"""Keys of a config that may name code, or state another precision."""
DEEPEST, LARGEST = 1000, 65536
"""Most layers of a model, and the greatest size in a config, so that a damaged one does not fill the memory."""
DINOV3_STEM = 4
"""Pixels of a patch in DINOv3's ConvNeXt, whose config does not state it."""
UNFIT = ("missing_keys", "mismatched_keys", "error_msgs")
"""What transformers reports on weights that do not fit; it leaves them random."""
RESAMPLING: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""{Pillow's number, which `resample` in a processor's file is: its name}"""


class TransformersBackbone(nn.Module):
    """A vision model of transformers: its patch tokens after its own final norm, if it has one, as a grid.

    The grid has no class token and no register tokens. Positions are interpolated by the model's own code, so that the
    grid equals `last_hidden_state` at every size that the stride divides. Convolutional and hierarchical models have no
    class token; that of SigLIP and CLIP is their pooled output.

    name: a folder, or a hub id of which the two JSON files are downloaded. BackboneError for another model_type and for
    files that are missing or that state something else than a plain vision model of three channels.
    """

    def __init__(self, name: str, image_size: int = 224):
        super().__init__()
        values, self.processor = _read_files(name)
        self.network: Any = _build(values, name)
        config = self.network.config
        stem = getattr(config, "patch_size", DINOV3_STEM)
        self.stride = stem * 2 ** (len(getattr(config, "depths", [0])) - 1)  # each stage but the first halves the sides
        self.channels = config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else config.hidden_size
        self.offset = (self.stride - 1) / 2
        pools = config.model_type in POOLED and getattr(config, "vision_use_head", True)
        self.pooled, self.has_class_token = pools, pools or config.model_type in FIRST_TOKEN
        prefix = config.model_type in (*FIRST_TOKEN, "clip_vision_model", "dinov3_convnext")
        self.prefix = int(prefix) + getattr(config, "num_register_tokens", 0)
        self.options = {"interpolate_pos_encoding": True} if config.model_type in WITH_POSITIONS else {}
        self.preprocessing = read_preprocessing(self.processor, image_size, f"{PREFIX}{name}")
        check_side(image_size, self.stride, f"{PREFIX}{name}")
        unused = ("embeddings.mask_token", *(["layernorm."] if config.model_type.startswith("convnext") else []))
        for key, parameter in self.network.named_parameters():
            if key.startswith(unused):
                parameter.requires_grad_(False)  # without a part in the output: processes would wait for its gradient

    @property
    def weights(self) -> nn.Module:
        return self.network

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The modules that transformers calls a layer: Dinov2Layer, SwinLayer, ConvNextLayer and so on."""
        return [module for module in self.network.modules() if type(module).__name__.endswith("Layer")]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        height, width = images.shape[-2:]
        check_sides((height, width), self.stride)
        output = self.network(images, **self.options)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:
            return hidden, None
        grid = hidden[:, self.prefix :].mT.unflatten(-1, (height // self.stride, width // self.stride))
        class_token = output.pooler_output if self.pooled else hidden[:, 0]
        return grid, class_token if self.has_class_token else None

    def save_files(self, folder: Path) -> None:
        """Write the files that build this backbone without its source: config and preprocessing, no weights."""
        folder.mkdir(parents=True, exist_ok=True)
        values = self.network.config.to_dict()
        write_json(folder / CONFIG, {key: value for key, value in values.items() if key not in LEFT_OUT})
        write_json(folder / PROCESSORS[0], self.processor)


def pretrained_state(name: str, backbone: TransformersBackbone) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a folder or a hub id under the names of the model in memory, and the names that were left out.

    transformers renames what older versions have written, so that its own loader alone reads it. BackboneError where a
    tensor is missing or has another shape, which would otherwise stay random.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = backbone.network
    try:
        loaded, info = type(network).from_pretrained(
            name,
            config=network.config,
            dtype=torch.float32,
            attn_implementation=network.config._attn_implementation,
            trust_remote_code=False,
            output_loading_info=True,
            **_options(network.config.model_type),
        )
    except Exception as error:  # of the hub, of safetensors, of torch, or of a conversion
        why = " ".join(str(error).split())[:200]
        fix = "set init.backbone to a folder with them, or to none for random weights"
        raise BackboneError(f"{name}: weights that cannot be read ({why}): {fix}") from error
    unfit = [f"{kind} {sorted(map(str, info[kind]))[:5]}" for kind in UNFIT if info.get(kind)]
    if unfit:
        raise BackboneError(f"{name}: not the weights of this {network.config.model_type}: {', '.join(unfit)}")
    return loaded.state_dict(), sorted(map(str, info["unexpected_keys"]))


def read_preprocessing(processor: dict[str, Any], image_size: int, where: str) -> Preprocessing:
    """The Preprocessing of a processor's file, with another side; its crop is not made, the whole image is resized.

    BackboneError for a key that is missing and for a step that Preprocessing does not know.
    """
    values = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255, "resample": 2} | processor
    scale = values["rescale_factor"]
    if not values["do_rescale"] or not isinstance(scale, int | float) or abs(255 * scale - 1) > 1e-6:
        raise BackboneError(f"{where}: the images of its processor are not pixels / 255, as they are here")
    if values["resample"] not in [*RESAMPLING]:  # it may be a list
        known = ", ".join(f"{number} ({name})" for number, name in RESAMPLING.items())
        raise BackboneError(f"{where}: resample {values['resample']!r} of its processor is none of {known}")
    stated = [values.get(key) for key in ("image_mean", "image_std")] if values["do_normalize"] else [[0] * 3, [1] * 3]
    if None in stated:
        raise BackboneError(f"{where}: image_mean or image_std is missing in {PROCESSORS[0]}: add it")
    mean, std = ([each] * 3 if isinstance(each, int | float) else each for each in stated)
    kept = {"image_size": image_size, "mean": mean, "std": std, "interpolation": RESAMPLING[values["resample"]]}
    try:
        return Preprocessing.from_dict(kept)
    except (TypeError, ValueError) as error:
        raise BackboneError(f"{where}: preprocessing: {error}") from error


def _read_files(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of the vision model and the processor of images."""
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, allow_patterns=[CONFIG, *PROCESSORS]))
        except (OSError, ValueError) as error:
            fix = "download it once with network access, or name a folder"
            raise BackboneError(
                f"{PREFIX}{name}: neither a folder nor a model of the hub that can be downloaded "
                f"({type(error).__name__}): {fix}"
            ) from error
    files = [path for file in (CONFIG, *PROCESSORS) if (path := folder / file).is_file()]
    if len(files) < 2 or files[0].name != CONFIG:
        raise BackboneError(f"{PREFIX}{name}: {CONFIG} or {PROCESSORS[0]} is missing in {folder}")
    try:
        values, processor = read_json(files[0]), read_json(files[1])
    except FileError as error:
        raise BackboneError(f"{PREFIX}{name}: {error}") from error
    processor = processor.get("image_processor", processor) if isinstance(processor, dict) else None
    if not isinstance(values, dict) or not isinstance(processor, dict):
        raise BackboneError(f"{PREFIX}{name}: {CONFIG} and {files[1].name} must each hold a JSON object")
    if isinstance(values.get("vision_config"), dict):
        values = {"model_type": f"{values.get('model_type')}_vision_model"} | values["vision_config"]
    return {key: value for key, value in values.items() if key not in LEFT_OUT}, processor


def _build(values: dict[str, Any], name: str) -> nn.Module:
    """The network of a config, with random weights."""
    import transformers

    if (model_type := str(values.get("model_type"))) not in MODELS:
        raise BackboneError(f"{PREFIX}{name}: {unknown_name('model_type', model_type, MODELS)}")
    kind = getattr(transformers, MODELS[model_type])
    try:
        _refuse_huge(values)
        config = kind.config_class.from_dict(values)
        if config.num_channels != 3:
            raise ValueError(f"images of {config.num_channels} channels, not 3")
        if not isinstance(getattr(config, "patch_size", DINOV3_STEM), int):
            raise ValueError(f"patch_size is {config.patch_size}, not the one side of a square")
        return kind(config, **_options(model_type))
    except Exception as error:  # a config may hold any value at any place
        why = " ".join(str(error).split())[:200]
        raise BackboneError(f"{PREFIX}{name}: {CONFIG}: not of a {model_type} that can be built ({why})") from error


def _options(model_type: str) -> dict[str, Any]:
    """Of the model's class, beside its config."""
    return {"add_pooling_layer": False} if model_type in WITHOUT_POOLER else {}


def _refuse_huge(values: dict[str, Any]) -> None:
    """ValueError for a size that no model has; transformers would make as many layers or names."""
    for key, value in values.items():
        most = DEEPEST if key in ("num_hidden_layers", "num_stages", "depths") else LARGEST
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and number > most:
                raise ValueError(f"{key} is {number}; at most {most}")
