"""Text encoders of any kind: what their folders declare is what is computed."""

import sys

import pytest
import torch
from tokenizers import Tokenizer

from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.protocol import TextEncoderError
from tests.support.text_encoders import SENTENCES, change, declare, tokenizer, write_encoder

KINDS = ("mpnet", "roberta", "xlm-roberta", "modernbert", "distilbert", "electra", "deberta-v2", "cxr-bert", "bert")
WITH_POOLER = ("mpnet", "roberta", "xlm-roberta", "bert")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind."""
    root = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(root / kind, kind) for kind in KINDS}


def hidden_states(folder, pooler: bool = False) -> list[torch.Tensor]:
    """Of each sentence alone, by transformers' own classes and the tokenizer.json: [tokens, T], or the pooler's [T]."""
    from transformers import AutoModel, BertModel

    own = BertModel if folder.name == "cxr-bert" else AutoModel
    model, words = own.from_pretrained(folder).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
    with torch.no_grad():
        outputs = [model(input_ids=torch.tensor([words.encode(text).ids])) for text in SENTENCES]
    return [output.pooler_output[0] if pooler else output.last_hidden_state[0] for output in outputs]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_library(folders, kind):
    states, whole = hidden_states(folders[kind]), {"sep": True, "max_length": 64}
    for pooling, expected in (("cls", [each[0] for each in states]), ("mean", [each.mean(dim=0) for each in states])):
        encoder = TransformerEncoder(str(folders[kind]), pooling=pooling, **whole)
        torch.testing.assert_close(encoder.encode(SENTENCES), torch.stack(expected), rtol=0, atol=1e-6)
        alone = torch.cat([encoder.encode([sentence]) for sentence in SENTENCES[::-1]])
        torch.testing.assert_close(alone.flip(0), torch.stack(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pooler_is_used_where_there_is_one(folders, kind):
    encoder = TransformerEncoder(str(folders[kind]), pooling="pooler", sep=True)
    if kind in WITH_POOLER:
        expected = torch.stack(hidden_states(folders[kind], pooler=True))
        torch.testing.assert_close(encoder.encode(SENTENCES), expected, rtol=0, atol=1e-6)
    else:
        message = "weights lack pooler" if kind == "cxr-bert" else f"a {kind} model has no pooler: set text.pooling"
        with pytest.raises(TextEncoderError, match=message):
            encoder.encode(["edge"])


def test_what_is_computed_without_a_declaration(folders):
    """The first vector, unnormalized; the tokens of tokenizer.json, or of a plain BERT those of the released one."""
    released = {"sep": False, "max_length": 64, "lower_case": True, "pooling": "cls", "normalize": False}
    assert TransformerEncoder(str(folders["bert"])).tokenisation == released | {"max_length": 66}
    assert TransformerEncoder(str(folders["cxr-bert"])).tokenisation == released | {"sep": True, "max_length": 66}
    assert TransformerEncoder(str(folders["roberta"])).tokenisation == released | {"sep": True}
    assert TransformerEncoder(str(folders["mpnet"])).tokenisation == released | {"sep": True}


def test_positions_of_a_roberta_begin_after_its_padding(folders):
    long = "lung " * 70
    assert len(TransformerEncoder(str(folders["roberta"])).token_ids([long])[0]) == 64
    assert TransformerEncoder(str(folders["roberta"]), max_length=64).encode([long]).isfinite().all()
    with pytest.raises(TextEncoderError, match=r"takes 64 tokens: set text\.max_length to at most that"):
        TransformerEncoder(str(folders["roberta"]), max_length=65).encode([long])


def test_tokenizer_json_is_read_as_it_is(tmp_path):
    """transformers' own classes would add a closing token, and follow tokenizer_config.json in lower-casing."""
    folder = write_encoder(tmp_path, "mpnet", template="<s> $A")
    change(folder / "tokenizer_config.json", do_lower_case=False, tokenizer_class="MPNetTokenizer")
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.enable_padding(length=40)
    words.enable_truncation(3)
    words.save(str(folder / "tokenizer.json"))
    encoder = TransformerEncoder(str(folder))
    [ids] = encoder.token_ids(["The LUNG edge."])
    assert [encoder.tokenizer.id_to_token(i) for i in ids] == ["<s>", "the", "lung", "edge", "."]
    assert (encoder.tokenisation["sep"], encoder.tokenisation["lower_case"]) == (False, True)


@pytest.mark.parametrize("kind", ["mpnet", "distilbert"])
def test_tokens_are_as_the_settings_say(folders, kind):
    opening, closing, unknown = ("<s>", "</s>", "<unk>") if kind == "mpnet" else ("[CLS]", "[SEP]", "[UNK]")

    def tokens(**options) -> list[str]:
        encoder = TransformerEncoder(str(folders[kind]), **options)
        [ids] = encoder.token_ids(["The lung"])
        return [encoder.tokenizer.id_to_token(i) for i in ids]

    assert tokens() == [opening, "the", "lung", closing]
    assert tokens(sep=False) == [opening, "the", "lung"]
    assert tokens(sep=False, max_length=2) == [opening, "the"]
    assert tokens(max_length=3) == [opening, "the", closing]
    assert tokens(lower_case=False) == [opening, unknown, "lung", closing]


def test_a_length_without_room_for_a_word_is_refused(folders):
    with pytest.raises(TextEncoderError, match=r"text\.max_length 2 leaves no word beside 2 special tokens"):
        TransformerEncoder(str(folders["mpnet"]), max_length=2).token_ids(["The lung"])


def test_a_closing_token_is_added_where_the_file_has_none(tmp_path):
    folder = write_encoder(tmp_path, "roberta", template="<s> $A")
    encoder = TransformerEncoder(str(folder), sep=True)
    assert encoder.tokenizer.encode("the lung").tokens == ["<s>", "the", "lung", "</s>"]


def test_a_sentence_without_an_opening_token_has_no_first_vector(tmp_path):
    folder = write_encoder(tmp_path, "roberta", template="$A </s>")
    with pytest.raises(TextEncoderError, match=r"no special token opens a sentence: set text\.pooling to mean"):
        TransformerEncoder(str(folder)).encode(["edge"])
    assert TransformerEncoder(str(folder), pooling="mean").encode(["edge"]).shape == (1, 32)


def test_a_checkpoint_of_masked_words_needs_no_pooler(tmp_path):
    folder = write_encoder(tmp_path, "roberta", head=True)
    torch.testing.assert_close(
        TransformerEncoder(str(folder)).encode(SENTENCES),
        torch.stack([each[0] for each in hidden_states(folder)]),
        rtol=0,
        atol=1e-6,
    )
    with pytest.raises(TextEncoderError, match=r"weights lack pooler\.dense\.bias, pooler\.dense\.weight"):
        TransformerEncoder(str(folder), pooling="pooler").encode(["edge"])


def test_no_code_of_a_folder_runs_and_nothing_is_read_from_the_terminal(folders, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("a prompt"))
    assert TransformerEncoder(str(folders["cxr-bert"])).encode(["edge"]).shape == (1, 32)
    assert not [name for name in sys.modules if name.endswith(".modeling") and "transformers_modules" in name]


# Folders of sentence-transformers --------------------------------------------------------------------------------

OLD = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
NEW = {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}


def sentence_folder(folder, *modules: str, pooling: dict | None = None, **declared) -> TransformerEncoder:
    write_encoder(folder, "bert")
    declare(folder, *(modules or ("Pooling", "Normalize")), **declared)
    change(folder / "1_Pooling" / "config.json", **(OLD if pooling is None else pooling))
    return TransformerEncoder(str(folder))


@pytest.mark.parametrize("pooling", [OLD, NEW, OLD | {"include_prompt": True}])
@pytest.mark.parametrize("prefix", ["sentence_transformers.models.", "sentence_transformers.base.modules.x."])
def test_a_sentence_encoder_is_pooled_and_normalized_as_declared(tmp_path, pooling, prefix):
    encoder = sentence_folder(tmp_path, pooling=pooling, prefix=prefix)
    change(tmp_path / "sentence_bert_config.json", max_seq_length=9, do_lower_case=False)
    stated = {"sep": True, "max_length": 9, "lower_case": True, "pooling": "mean", "normalize": True}
    assert encoder.tokenisation == stated
    expected = torch.stack([each.mean(dim=0) for each in hidden_states(tmp_path)])
    expected = expected / expected.norm(dim=-1, keepdim=True)
    short = [0, 1, 3, 4]  # the other one is cut
    torch.testing.assert_close(encoder.encode(SENTENCES)[short], expected[short], rtol=0, atol=1e-6)


def test_settings_override_what_is_declared(tmp_path):
    sentence_folder(tmp_path)
    encoder = TransformerEncoder(str(tmp_path), pooling="cls", normalize=False)
    expected = torch.stack([each[0] for each in hidden_states(tmp_path)])
    torch.testing.assert_close(encoder.encode(SENTENCES), expected, rtol=0, atol=1e-6)


def test_the_length_is_that_of_the_tokenizer_where_no_other_is_declared(tmp_path):
    encoder = sentence_folder(tmp_path)
    change(tmp_path / "tokenizer_config.json", model_max_length=17)
    assert encoder.tokenisation["max_length"] == 17
    change(tmp_path / "tokenizer_config.json", model_max_length=1e30)
    assert TransformerEncoder(str(tmp_path)).tokenisation["max_length"] == 66


def test_lower_casing_is_declared_apart_from_the_tokenizer(tmp_path):
    sentence_folder(tmp_path)
    words = tokenizer(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    words.normalizer = None
    words.save(str(tmp_path / "tokenizer.json"))
    kept, lowered = TransformerEncoder(str(tmp_path)), TransformerEncoder(str(tmp_path), lower_case=True)
    assert kept.tokenizer.encode("The lung").tokens == ["[CLS]", "[UNK]", "lung", "[SEP]"]
    assert lowered.tokenizer.encode("The lung").tokens == ["[CLS]", "the", "lung", "[SEP]"]
    change(tmp_path / "sentence_bert_config.json", do_lower_case=True)
    declared = TransformerEncoder(str(tmp_path))
    assert (declared.tokenisation["lower_case"], kept.tokenisation["lower_case"]) == (True, False)
    assert declared.token_ids(["The lung"]) == lowered.token_ids(["The lung"])


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (("Pooling", "Dense"), OLD, "declares a module Dense after the pooling, which is not supported"),
        (("Pooling",), OLD | {"pooling_mode_cls_token": True}, r"pooling cls_token \+ mean_tokens"),
        (("Pooling",), NEW | {"pooling_mode": "lasttoken"}, "pooling lasttoken"),
        (("Pooling",), {"pooling_mode_mean_tokens": False}, "pooling by no mode"),
    ],
)
def test_what_is_not_supported_is_refused_and_can_be_left_out(tmp_path, modules, pooling, message):
    encoder = sentence_folder(tmp_path, *modules, pooling=pooling)
    with pytest.raises(TextEncoderError, match=f"{message}.* set text.pooling to cls or mean"):
        encoder.encode(["edge"])
    assert TransformerEncoder(str(tmp_path), pooling="mean").encode(["edge"]).shape == (1, 32)


def test_a_prompt_before_each_sentence_is_refused(tmp_path):
    encoder = sentence_folder(tmp_path)
    change(tmp_path / "config_sentence_transformers.json", prompts={"query": "find: "}, default_prompt_name="query")
    with pytest.raises(TextEncoderError, match="a prompt 'query' before each sentence"):
        encoder.encode(["edge"])


def test_the_transformer_may_have_a_folder_of_its_own(tmp_path):
    write_encoder(tmp_path / "0_Transformer", "mpnet")
    declare(tmp_path, "Pooling", path="0_Transformer")
    change(tmp_path / "1_Pooling" / "config.json", **OLD)
    encoder = TransformerEncoder(str(tmp_path))
    expected = torch.stack([each.mean(dim=0) for each in hidden_states(tmp_path / "0_Transformer")])
    torch.testing.assert_close(encoder.encode(SENTENCES), expected, rtol=0, atol=1e-6)
    before = encoder.fingerprint
    write_encoder(tmp_path / "0_Transformer", "mpnet", seed=1)
    assert TransformerEncoder(str(tmp_path)).fingerprint != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("{}", "expected a list of modules with type and path"),
        ('[{"type": "x.Pooling", "path": ""}]', "the first a Transformer"),
        ('[{"type": "x.Transformer", "path": "../other"}]', r"'\.\./other' is not allowed"),
        ('[{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "/etc"}]', "'/etc' is not allowed"),
    ],
)
def test_broken_declarations_are_one_line(tmp_path, content, message):
    encoder = sentence_folder(tmp_path)
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(TextEncoderError, match=message) as caught:
        encoder.encode(["edge"])
    assert "\n" not in str(caught.value)
