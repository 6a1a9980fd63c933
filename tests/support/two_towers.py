"""Folders of small CLIP and SigLIP models with random weights, as transformers writes them."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = (
    "no a chest x ray with there is findings suggesting seen evidence of effusion mass edema normal film fluid".split()
)
SIDE, PATCH = 32, 8


def write_two_towers(folder: Path, kind: str, seed: int = 0) -> Path:
    """The folder of a model: "clip" or "siglip"."""
    import transformers

    names = {"clip": "CLIP", "siglip": "Siglip"}[kind]
    text = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = text | {"image_size": SIDE, "patch_size": PATCH}
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text |= {"vocab_size": len(WORDS) + len(special), "max_position_embeddings": 20, **ids}
    more = {"projection_dim": 16} if kind == "clip" else {}
    if kind == "siglip":
        text["projection_size"] = 24
    config = getattr(transformers, f"{names}Config")(text_config=text | more, vision_config=vision | more, **more)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{names}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
        model.logit_scale.fill_(1.5)
    model.save_pretrained(folder)
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="<unk>"))
    tokens.normalizer, tokens.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, **names).save_pretrained(folder)
    stated = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    return folder
