"""Tokenizers as the files of a text encoder's folder say, or as in the released training.

`tokenizers.Tokenizer.from_file` is the faithful reading of tokenizer.json: transformers' tokenizer classes build the
pipeline anew from the vocabulary and their own defaults, with another normalizer and other special tokens.
"""

from collections.abc import Sequence
from typing import Any

from mavl.text.encoders.declared import KINDS, Declared
from mavl.text.protocol import TextEncoderError

VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")
OTHER_VOCABULARY_FILES = ("vocab.json", "merges.txt", "sentencepiece.bpe.model", "spm.model")
CLOSING = ("[SEP]", "</s>")


def read_tokenizer(declared: Declared, sep: bool | None, max_length: int, lower_case: bool | None) -> Any:
    """A `tokenizers.Tokenizer` that opens and cuts sentences, without padding. TextEncoderError where none can be read.

    Args:
        sep: whether a closing token ends the sentence; None: as declared.
        max_length: tokens kept, special ones included.
        lower_case: None: as declared.
    """
    where = f"text encoder {declared.folder}"
    _require_vocabulary(declared, where)
    try:
        tokenizer = _as_released(declared, sep or False, lower_case) if declared.released else _as_declared(declared)
    except Exception as error:  # tokenizers raises nothing narrower
        raise TextEncoderError(f"{where}: its vocabulary cannot be read ({one_line(error)})") from error
    if declared.released:
        words = tokenizer.get_vocab(with_added_tokens=False)
        if missing := [token for token in ("[CLS]", "[SEP]") if token not in words]:  # transformers adds them as new
            raise TextEncoderError(f"{where}: its vocabulary has no {missing[0]}")
    else:
        if sep is not None and sep != closes(tokenizer):
            _set_closing(tokenizer, sep, where)
        if lower_case is not None and lower_case != lower_cases(tokenizer):
            _set_case(tokenizer, lower_case, where)
    if (special := sum(map(len, _special(tokenizer)))) >= max_length:  # tokenizers would then cut nothing
        raise TextEncoderError(f"{where}: text.max_length {max_length} leaves no word beside {special} special tokens")
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer


def closes(tokenizer: Any) -> bool:
    """Whether a special token ends a sentence."""
    return bool(_special(tokenizer)[1])


def opens(tokenizer: Any) -> bool:
    """Whether a special token, whose vector is the sentence's by `cls`, is before it."""
    return bool(_special(tokenizer)[0])


def lower_cases(tokenizer: Any) -> bool:
    return tokenizer.normalizer is not None and "A" not in tokenizer.normalizer.normalize_str("A")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _require_vocabulary(declared: Declared, where: str) -> None:
    """TextEncoderError without the files of a vocabulary: transformers would make a tokenizer of five words."""
    import transformers

    if declared.released:
        needed: Sequence[str] = VOCABULARY_FILES
    else:
        of_class = KINDS[declared.kind][1]
        names = getattr(transformers, of_class).vocab_files_names.values() if of_class else ()
        needed = [name for name in names if name != "merges.txt"] or ["tokenizer.json"]
    if not any((declared.folder / name).exists() for name in needed):
        raise TextEncoderError(f"{where}: none of {', '.join(needed)} is there")


def _as_released(declared: Declared, sep: bool, lower_case: bool | None) -> Any:
    """The released training adds no closing [SEP] to a lone sentence, and lower-cases."""
    from tokenizers import normalizers, processors
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(str(declared.folder)).backend_tokenizer
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    template = "[CLS] $A [SEP]" if sep else "[CLS] $A"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case is not False)
    return tokenizer


def _as_declared(declared: Declared) -> Any:
    from tokenizers import Tokenizer, normalizers

    path = declared.folder / "tokenizer.json"
    if path.exists():
        tokenizer = Tokenizer.from_file(str(path))
    else:
        import transformers

        of_class = getattr(transformers, KINDS[declared.kind][1])
        tokenizer = of_class.from_pretrained(str(declared.folder)).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if declared.lower_case and not lower_cases(tokenizer):
        tokenizer.normalizer = _after(normalizers.Lowercase(), tokenizer.normalizer)
    return tokenizer


def _special(tokenizer: Any) -> tuple[list[str], list[str]]:
    """The special tokens before and after a sentence."""
    encoding = tokenizer.encode("a")
    text = [position for position, special in enumerate(encoding.special_tokens_mask) if not special]
    if not text:
        return encoding.tokens, []
    return encoding.tokens[: text[0]], encoding.tokens[text[-1] + 1 :]


def _set_closing(tokenizer: Any, sep: bool, where: str) -> None:
    from tokenizers import processors

    before, _ = _special(tokenizer)
    after = [token for token in CLOSING if tokenizer.token_to_id(token) is not None][:1] if sep else []
    if sep and not after:
        raise TextEncoderError(f"{where}: its vocabulary has none of {', '.join(CLOSING)}: leave text.sep at auto")
    special = [(token, tokenizer.token_to_id(token)) for token in (*before, *after)]
    template = [*before, "$A", *after]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)


def _set_case(tokenizer: Any, lower_case: bool, where: str) -> None:
    from tokenizers import normalizers

    if lower_case:
        tokenizer.normalizer = _after(normalizers.Lowercase(), tokenizer.normalizer)
    elif isinstance(normalizer := tokenizer.normalizer, normalizers.BertNormalizer):
        normalizer.lowercase = False
        tokenizer.normalizer = normalizer
    else:
        raise TextEncoderError(f"{where}: its tokenizer lower-cases: leave text.lower_case at auto")


def _after(first: Any, second: Any) -> Any:
    from tokenizers import normalizers

    return first if second is None else normalizers.Sequence([first, second])
