"""Text: tokens as the release cuts them, vectors that depend on the sentence alone, encoders that are what they say."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.protocol import TextEncoderError
from tests.support.text_encoders import SENTENCES, WIDTH, write_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_bert(tmp_path_factory.mktemp("bert"), SENTENCES, seed=3, width=WIDTH)


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the encoder's folder, to be damaged."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def tokens(encoder: TransformerEncoder, sentence: str) -> list[str]:
    [ids] = encoder.token_ids([sentence])
    return [encoder.tokenizer.id_to_token(i) for i in ids]


def test_a_random_bert_depends_on_its_seed_and_words(folder, tmp_path):
    again = write_random_bert(tmp_path / "again", SENTENCES[::-1], seed=3, width=WIDTH)
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())
    other = write_random_bert(tmp_path / "other", SENTENCES, seed=4, width=WIDTH)
    assert (other / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()
    fingerprints = [TransformerEncoder(str(path)).fingerprint for path in (folder, again, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # whoever may read one may read all


def test_a_random_bert_leaves_the_random_numbers_of_others_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    write_random_bert(tmp_path, SENTENCES, seed=3, width=WIDTH)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_random_bert_separates_sentences_and_near_ones_less(folder):
    vectors = TransformerEncoder(str(folder)).encode(["in the upper lung", "in the lung", "pleural thickening"])
    distance = torch.cdist(vectors, vectors)
    assert 0.1 < distance[0, 1] < distance[0, 2]


def test_tokens_open_with_cls_and_end_with_the_last_word(folder):
    assert tokens(TransformerEncoder(str(folder)), "Fluid in the LUNG.") == ["[CLS]", "fluid", "in", "the", "lung", "."]


def test_sep_closes_the_sentence(folder):
    assert tokens(TransformerEncoder(str(folder), sep=True), "the lung") == ["[CLS]", "the", "lung", "[SEP]"]


def test_long_sentences_are_cut_and_keep_their_closing_token(folder):
    sentence = "round opacity in the lung"
    short = TransformerEncoder(str(folder), max_length=4)
    assert tokens(short, sentence) == ["[CLS]", "round", "opacity", "in"]
    assert tokens(TransformerEncoder(str(folder), max_length=4, sep=True), sentence) == [
        "[CLS]",
        "round",
        "opacity",
        "[SEP]",
    ]
    torch.testing.assert_close(short.encode([sentence]), short.encode(["round opacity in"]))


def test_capitals_count_only_where_they_are_kept(folder):
    lowered = TransformerEncoder(str(folder)).encode(["the lung", "The LUNG"])
    torch.testing.assert_close(lowered[0], lowered[1], rtol=0, atol=0)
    kept = TransformerEncoder(str(folder), lower_case=False)
    assert tokens(kept, "the Lung") == ["[CLS]", "the", "[UNK]"]


def test_words_that_were_never_seen_are_spelled(folder):
    assert tokens(TransformerEncoder(str(folder)), "gun") == ["[CLS]", "g", "##u", "##n"]


def test_vectors_equal_a_direct_call_of_transformers(folder):
    from transformers import BertModel

    encoder = TransformerEncoder(str(folder))
    bert = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [bert(torch.tensor([ids])).last_hidden_state[0, 0] for ids in encoder.token_ids(SENTENCES)]
    torch.testing.assert_close(encoder.encode(SENTENCES), torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_vector_does_not_depend_on_its_neighbours(folder, batch_size):
    alone = torch.cat([TransformerEncoder(str(folder)).encode([sentence]) for sentence in SENTENCES])
    encoder = TransformerEncoder(str(folder), batch_size=batch_size)
    torch.testing.assert_close(encoder.encode(SENTENCES), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder.encode(SENTENCES[::-1]), alone.flip(0), rtol=0, atol=1e-5)
    repeated = encoder.encode([SENTENCES[1], SENTENCES[0], SENTENCES[1]])
    torch.testing.assert_close(repeated, alone[[1, 0, 1]], rtol=0, atol=1e-5)
    assert (alone.shape, alone.dtype) == ((len(SENTENCES), WIDTH), torch.float32)


def test_equal_sentences_are_encoded_once_and_little_is_padding(folder):
    encoder = TransformerEncoder(str(folder), batch_size=2)
    shapes = []
    encoder.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    encoder.encode(["edge", "the lung", "round opacity in the upper lung", "edge", "in the lung"])
    assert shapes == [(2, 3), (2, 7)]


def test_the_encoder_is_frozen(folder):
    bert = TransformerEncoder(str(folder)).model
    assert not bert.training
    assert not any(parameter.requires_grad for parameter in bert.parameters())


def test_another_kind_of_model_is_refused_before_it_is_read(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    (copy / "vocab.txt").unlink()
    with pytest.raises(TextEncoderError, match="is a 'gpt2' model; supported are bert, cxr-bert, distilbert, "):
        TransformerEncoder(str(copy)).encode(["edge"])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(TextEncoderError, match=r"no folder with a text encoder .*config\.json"):
        TransformerEncoder(str(tmp_path)).encode(["edge"])


def cut(text: str) -> str:
    return text[: len(text) // 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"no folder with a text encoder \(.*config\.json: not JSON \(line "),
        (lambda text: "", r"no folder with a text encoder \(.*config\.json: not JSON"),
        (lambda text: "[]", "is a None model"),
        (lambda text: '{"model_type": ["bert"]}', r"is a \['bert'\] model"),
        (lambda text: "[" * 3000, "no folder with a text encoder .* more than 100 levels"),
        (lambda text: text.replace('"hidden_size": 32', '"hidden_size": "wide"'), "its weights cannot be read"),
        (lambda text: text.replace('"hidden_size": 32', '"hidden_size": 33'), "its weights cannot be read"),
        (lambda text: text.replace('"hidden_act": "gelu"', '"hidden_act": "none"'), "its weights cannot be read"),
        (lambda text: text.replace('"num_attention_heads": 1', '"num_attention_heads": 0'), "its weights cannot be r"),
    ],
)
def test_a_broken_config_is_one_line(copy, change, message):
    path = copy / "config.json"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(TextEncoderError, match=message) as caught:
        TransformerEncoder(str(copy)).encode(["edge"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("[CLS]\n", ""), r"its vocabulary has no \[CLS\]"),
        (lambda text: text.replace("[SEP]\n", ""), r"its vocabulary has no \[SEP\]"),
        (lambda text: text + "more\nwords\n", r"a vocabulary of \d+ words for \d+ vectors"),
    ],
)
def test_a_vocabulary_of_another_model_is_refused(copy, change, message):
    (copy / "vocab.txt").write_text(change((copy / "vocab.txt").read_text()))
    with pytest.raises(TextEncoderError, match=message):
        TransformerEncoder(str(copy)).encode(["edge"])


def test_a_tokenizer_that_is_no_json_is_refused(copy):
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(TextEncoderError, match="its vocabulary cannot be read"):
        TransformerEncoder(str(copy)).encode(["edge"])


def test_more_tokens_than_the_encoder_takes_are_refused(folder):
    assert TransformerEncoder(str(folder), max_length=512).encode(["edge"]).shape == (1, WIDTH)
    with pytest.raises(TextEncoderError, match=r"takes 512 tokens: set text\.max_length to at most that"):
        TransformerEncoder(str(folder), max_length=513).encode(["edge"])


def test_sentences_that_are_cut_are_counted_by_one_process(folder, capsys, monkeypatch):
    encoder = TransformerEncoder(str(folder), max_length=3)
    encoder.encode(["the lung", "edge"])
    assert capsys.readouterr().err == ""
    encoder.encode(["Fluid in the lung.", "edge", "Fluid in the lung.", "the upper lung"])
    assert (
        capsys.readouterr().err == f"note: {folder} reads the beginning of 2 of 3 sentences with more than 3 tokens\n"
    )
    monkeypatch.setenv("RANK", "1")
    encoder.encode(["Fluid in the lung."])
    assert capsys.readouterr().err == ""


def test_a_folder_without_a_vocabulary_is_refused(copy):
    (copy / "vocab.txt").unlink()
    with pytest.raises(TextEncoderError, match=r"none of vocab\.txt, tokenizer\.json is there"):
        TransformerEncoder(str(copy)).encode(["edge"])


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")])
def test_unreadable_weights_are_refused(copy, damage):
    damage(copy / "model.safetensors")
    with pytest.raises(TextEncoderError, match="its weights cannot be read"):
        TransformerEncoder(str(copy)).encode(["edge"])


def test_weights_that_lack_a_tensor_are_not_filled_up_at_random(copy):
    name = "encoder.layer.1.output.dense.weight"
    state = load_file(copy / "model.safetensors")
    del state[name]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TextEncoderError, match=f"weights lack {name}"):
        TransformerEncoder(str(copy)).encode(["edge"])


@pytest.mark.parametrize("name", ["nobody/has-this-model", "no/such/folder"])
def test_the_error_of_an_encoder_that_is_nowhere_names_a_fix(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TextEncoderError, match=f"'{name}' is not a folder and cannot be .* hub .* download"):
        TransformerEncoder(name).encode(["edge"])


def test_cached_weights_without_a_declaration_are_used_with_a_pooling_of_ones_own(monkeypatch, tmp_path):
    """transformers fetches no modules.json: by it alone a sentence encoder would be taken for one of first vectors."""
    write_encoder(tmp_path, "mpnet")

    def snapshot(name, allow_patterns, local_files_only=False):
        if not local_files_only:
            raise OSError("no network")
        return tmp_path

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    with pytest.raises(
        TextEncoderError, match=r"modules\.json may be missing, so set text\.pooling .*; download it once"
    ):
        TransformerEncoder("some/encoder").encode(["edge"])
    assert TransformerEncoder("some/encoder", pooling="mean").encode(["edge"]).shape == (1, WIDTH)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: object())  # it does not exist
    assert TransformerEncoder("some/encoder").tokenisation["pooling"] == "cls"


def test_a_cached_tokenizer_alone_is_no_encoder(monkeypatch, folder, tmp_path):
    """Where another program fetched only the tokenizer, the weights are still fetched, and not where they are there."""
    requests = []

    def snapshot(name, allow_patterns, local_files_only=False):
        requests.append(local_files_only)
        return tmp_path if local_files_only else folder

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    assert TransformerEncoder("some/bert").folder == folder
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert TransformerEncoder("some/bert").folder == tmp_path
    assert requests == [True, False, True]
