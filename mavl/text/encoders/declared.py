"""What the files of a text encoder's folder declare: its kind, pooling, tokens and length."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mavl.files import OutsideError, inside, read_json
from mavl.text.protocol import TextEncoderError

Pooling = Literal["cls", "mean", "pooler"]

KINDS: dict[str, tuple[str, str]] = {
    "bert": ("BertModel", "BertTokenizer"),
    "cxr-bert": ("BertModel", "BertTokenizer"),  # the joint head that its own code adds is not used
    "distilbert": ("DistilBertModel", "BertTokenizer"),
    "electra": ("ElectraModel", "BertTokenizer"),
    "mpnet": ("MPNetModel", "MPNetTokenizer"),
    "roberta": ("RobertaModel", "RobertaTokenizer"),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaTokenizer"),
    "deberta-v2": ("DebertaV2Model", "DebertaV2Tokenizer"),
    "modernbert": ("ModernBertModel", ""),
}
"""{model_type: transformers' classes of the model and of a tokenizer without tokenizer.json}."""

POSITIONS_AFTER_PADDING = ("mpnet", "roberta", "xlm-roberta")
"""Their first position is the padding token's number + 1: so many positions hold no token."""

MODULES, LENGTH, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
"""Files of sentence-transformers: its modules in order, the length and lower-casing, the prompts."""


@dataclass(frozen=True)
class Declared:
    """The declaration of a folder.

    kind: the model_type. folder: of config, weights and tokenizer. released: whether it is a BERT that declares nothing
    more, which is read as in the released training: no [SEP], lower-cased, 128 tokens. pooling, normalize: of the
    vector of a sentence. max_length: tokens, special ones included; most: what its positions take. lower_case: whether
    the text is lower-cased before the tokenizer. unsupported: why `pooling` is not what the folder declares.
    """

    kind: str
    folder: Path
    released: bool
    pooling: Pooling
    normalize: bool
    max_length: int
    most: int
    lower_case: bool
    unsupported: str = ""


def read_declared(folder: Path) -> Declared:
    """TextEncoderError for a folder without a text encoder, and for a kind of model that is not in KINDS."""
    modules = _read_modules(folder)
    inner = _transformer(folder, modules)
    try:
        config = read_json(inner / "config.json")
    except (OSError, ValueError) as error:
        raise TextEncoderError(f"text encoder {inner}: no folder with a text encoder ({error})") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise TextEncoderError(f"text encoder {inner} is a {kind!r} model; supported are {', '.join(KINDS)}")
    most = _number(config, "max_position_embeddings", 512)
    if kind in POSITIONS_AFTER_PADDING:
        most -= _number(config, "pad_token_id", 1) + 1
    if kind == "bert" and modules is None:
        return Declared(kind, inner, True, "cls", False, min(128, most), most, True)
    pooling, unsupported = _pooling(folder, modules or [])
    lengths = _object(inner / LENGTH)
    tokens = _number(lengths, "max_seq_length", 0) or _number(
        _object(inner / "tokenizer_config.json"), "model_max_length", most
    )
    normalize = any(_is(module, "Normalize") for module in modules or ())
    lower_case = lengths.get("do_lower_case") is True
    return Declared(kind, inner, False, pooling, normalize, min(tokens, most), most, lower_case, unsupported)


def _read_modules(folder: Path) -> list[dict[str, str]] | None:
    """The modules of sentence-transformers in order; None for another folder."""
    path = folder / MODULES
    if not path.exists():
        return None
    try:
        modules = read_json(path)
    except (OSError, ValueError) as error:
        raise TextEncoderError(f"text encoder {folder}: {error}") from error
    right = isinstance(modules, list) and all(
        isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(module.get("path"), str)
        for module in modules
    )
    if not right or not modules or not _is(modules[0], "Transformer"):
        raise TextEncoderError(f"{path}: expected a list of modules with type and path, the first a Transformer")
    return modules


def _is(module: dict[str, str], name: str) -> bool:
    """By the end of the type: the package has moved its modules."""
    return module["type"].rpartition(".")[2] == name


def _transformer(folder: Path, modules: list[dict[str, str]] | None) -> Path:
    return _inside(folder, modules[0]["path"]) if modules and modules[0]["path"] else folder


def _inside(folder: Path, name: str) -> Path:
    try:
        return inside(folder, name)
    except OutsideError as error:
        raise TextEncoderError(f"{folder / MODULES}: {error}") from error


def _pooling(folder: Path, modules: list[dict[str, str]]) -> tuple[Pooling, str]:
    """The declared pooling, "cls" where none is; and what of the declaration is not supported."""
    pooling: Pooling = "cls"
    for module in modules[1:]:
        if _is(module, "Pooling"):
            config = _object(_inside(folder, module["path"]) / "config.json")
            modes = [config["pooling_mode"]] if "pooling_mode" in config else []
            modes += [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
            modes = [mode for mode in modes if mode != "include_prompt"]
            if modes in (["cls"], ["cls_token"]):
                pooling = "cls"
            elif modes in (["mean"], ["mean_tokens"]):
                pooling = "mean"
            else:
                return pooling, f"pooling {' + '.join(map(str, modes)) or 'by no mode'}"
        elif not _is(module, "Normalize"):
            return pooling, f"a module {module['type'].rpartition('.')[2]} after the pooling"
    prompt = _object(folder / PROMPTS).get("default_prompt_name")
    return pooling, f"a prompt {prompt!r} before each sentence" if prompt else ""


def _object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, {} without it."""
    try:
        content = read_json(path) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise TextEncoderError(f"text encoder {path.parent}: {error}") from error
    if not isinstance(content, dict):
        raise TextEncoderError(f"{path}: holds a {type(content).__name__}, not an object")
    return content


def _number(config: dict[str, Any], key: str, default: int) -> int:
    """A whole number of a config, not below zero; the default where it is absent or null.

    model_max_length is a float of 1e30 in folders that set no limit.
    """
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0 or value == float("inf"):
        raise TextEncoderError(f"the files of the text encoder give {key} as {value!r}, which is no number of tokens")
    return int(value)
