"""Text embeddings: rows by name, a cache for the same texts and encoder alone, files that are whole or absent."""

import json
import multiprocessing
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mavl.text.books import BookError, Books
from mavl.text.embeddings import EmbeddingsError, TextEmbeddings, build_embeddings
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.vocab import ANATOMIES, ASPECTS, anatomy_sentence

FINDINGS = ("edema", "mass", "normal")
BOOKS = Books(
    {name: {aspect: f"{aspect}: the {aspect} of {name}" for aspect in ASPECTS} for name in (*FINDINGS, "covid19")},
    {"books/a.json": "a1"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    sentences = [text for aspects in BOOKS.sentences.values() for text in aspects.values()]
    sentences += map(anatomy_sentence, ANATOMIES)
    return str(write_random_bert(tmp_path_factory.mktemp("bert"), sentences, seed=0, width=32, layers=1))


@pytest.fixture
def encoder(folder) -> TransformerEncoder:
    return TransformerEncoder(folder)


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """How many sentences each call of an encoder was given."""
    numbers, encode = [], TransformerEncoder.encode
    monkeypatch.setattr(
        TransformerEncoder, "encode", lambda self, texts: numbers.append(len(texts)) or encode(self, texts)
    )
    return numbers


def small(findings=("a", "b", "c"), offset: float = 0.0) -> TextEmbeddings:
    """vectors [F, 2, 4] whose entries are their positions."""
    vectors = torch.arange(len(findings) * 8.0).view(-1, 2, 4) + offset
    anatomy_vectors = torch.arange(len(ANATOMIES) * 4.0).view(-1, 4)
    return TextEmbeddings(tuple(findings), ASPECTS[:2], vectors, anatomy_vectors, {"encoder": "e", "books": {"x": "1"}})


def test_rows_are_finding_major_with_the_description_first(encoder):
    embeddings = build_embeddings(BOOKS, FINDINGS, encoder)
    assert (embeddings.vectors.shape, embeddings.anatomy_vectors.shape) == ((3, 9, 32), (51, 32))
    for f, finding in enumerate(FINDINGS):
        for a, aspect in enumerate(["description", *sorted(ASPECTS[1:])]):
            expected = encoder.encode([f"{aspect}: the {aspect} of {finding}"])[0]
            torch.testing.assert_close(embeddings.vectors[f, a], expected, rtol=0, atol=1e-5)
    expected = encoder.encode(["It is located at right_atrium"])[0]
    torch.testing.assert_close(embeddings.anatomy_vectors[ANATOMIES.index("right_atrium")], expected, rtol=0, atol=1e-5)


def test_one_aspect_makes_the_embeddings_of_medklip(encoder):
    books = Books({"edema": {"description": "Fluid."}}, {})
    assert build_embeddings(books, ["edema"], encoder, ["description"]).vectors.shape == (1, 1, 32)


def test_every_finding_without_a_sentence_is_named(encoder, calls):
    with pytest.raises(BookError, match=r"unknown finding 'masses'.*unknown finding 'hernia'"):
        build_embeddings(BOOKS, ["edema", "masses", "hernia"], encoder)
    assert calls == []


def test_findings_are_found_by_name():
    embeddings = small()
    assert embeddings.index(["c", "a"]) == [2, 0]
    chosen = embeddings.select(["c", "a"])
    assert chosen.findings == ("c", "a")
    assert chosen.vectors[:, 0, 0].tolist() == [16, 0]
    assert torch.equal(chosen.anatomy_vectors, embeddings.anatomy_vectors)


def test_an_unknown_name_suggests_near_ones(encoder):
    embeddings = build_embeddings(BOOKS, FINDINGS, encoder)
    with pytest.raises(KeyError, match="unknown finding 'edma'; did you mean 'edema'"):
        embeddings.select(["normal", "edma"])


def test_new_findings_come_behind_the_old():
    more = replace(small(["d"], offset=100.0), about={"encoder": "e", "books": {"y": "2"}})
    embeddings = small().extended(more)
    assert embeddings.findings == ("a", "b", "c", "d")
    assert embeddings.vectors[:, 0, 0].tolist() == [0, 8, 16, 100]
    assert embeddings.about["books"] == {"x": "1", "y": "2"}


def test_a_finding_is_there_once():
    with pytest.raises(EmbeddingsError, match="in both text embeddings: b"):
        small().extended(small(["d", "b"]))


def test_embeddings_with_aspects_in_another_order_do_not_mix():
    """Their vectors have one shape, and a row would stand for another aspect."""
    one, other = small().aspects
    turned = replace(small(["d"]), aspects=(other, one))
    with pytest.raises(EmbeddingsError, match=f"{one}, {other} in the model and {other}, {one} in the new text"):
        small().extended(turned)


def test_embeddings_of_different_encoders_do_not_mix(folder, tmp_path):
    embeddings = build_embeddings(BOOKS, FINDINGS, TransformerEncoder(folder))
    for other in (TransformerEncoder(folder, sep=True), TransformerEncoder(str(_with_other_weights(folder, tmp_path)))):
        with pytest.raises(EmbeddingsError, match="another text encoder or tokenisation"):
            embeddings.extended(build_embeddings(BOOKS, ["covid19"], other))
    cut = TransformerEncoder(folder, max_length=64, batch_size=1)
    assert embeddings.extended(build_embeddings(BOOKS, ["covid19"], cut)).findings[-1] == "covid19"
    new = {"findings": ("d",), "vectors": torch.zeros(1, 9, 4), "anatomy_vectors": torch.zeros(51, 4)}
    narrow = replace(embeddings, **new)
    with pytest.raises(EmbeddingsError, match=r"\(9, 32\) in the model and \(9, 4\) in the new text"):
        embeddings.extended(narrow)


def test_embeddings_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"text embeddings of \(1, 2\) findings and aspects hold vectors \(3, 2, 4\)"):
        replace(small(), findings=("a",))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vectors": torch.zeros(3, 2)}, r"hold vectors \(3, 2\)"),
        ({"anatomy_vectors": torch.zeros(50, 4)}, r"of width 4 hold vectors \(50, 4\) of anatomies"),
        ({"anatomy_vectors": torch.zeros(51, 5)}, r"of width 4 hold vectors \(51, 5\) of anatomies"),
        ({"findings": ("a", "b", "a")}, "name 'a' twice"),
    ],
)
def test_embeddings_that_contradict_themselves_are_refused(changed, message):
    with pytest.raises(EmbeddingsError, match=message):
        replace(small(), **changed)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_refused_with_its_name(number, tmp_path):
    vectors, anatomy_vectors = small().vectors.clone(), small().anatomy_vectors.clone()
    vectors[1, 1, 3] = number
    with pytest.raises(EmbeddingsError, match="the text embeddings of b hold NaN or infinity"):
        replace(small(), vectors=vectors)
    anatomy_vectors[50, 0] = anatomy_vectors[0, 3] = number
    with pytest.raises(EmbeddingsError, match="the text embeddings of trachea, other hold NaN or infinity"):
        replace(small(), anatomy_vectors=anatomy_vectors)


def test_an_encoder_with_a_weight_that_is_no_number_is_refused(folder, tmp_path):
    other = _with_other_weights(folder, tmp_path / "bert")
    state = load_file(other / "model.safetensors")
    state["encoder.layer.0.output.LayerNorm.bias"][0] = torch.nan
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbeddingsError, match=r"the text embeddings of edema, mass, normal, trachea, .* hold NaN"):
        build_embeddings(BOOKS, FINDINGS, TransformerEncoder(str(other)), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_is_made_again_and_the_line_says_so(encoder, calls, tmp_path, capsys):
    first = build_embeddings(BOOKS, FINDINGS, encoder, cache=tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    again = build_embeddings(BOOKS, FINDINGS, encoder, cache=tmp_path)
    assert len(calls) == 2
    assert torch.equal(again.vectors, first.vectors)
    assert capsys.readouterr().err.startswith(f"note: {path}: damaged")
    build_embeddings(BOOKS, FINDINGS, encoder, cache=tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("key", ["findings", "aspects", "about"])
def test_a_file_without_one_of_its_names_is_refused(tmp_path, key):
    embeddings = small()
    names = {name: json.dumps(getattr(embeddings, name)) for name in ("findings", "aspects", "about") if name != key}
    tensors = {"vectors": embeddings.vectors, "anatomy_vectors": embeddings.anatomy_vectors}
    save_file(tensors, tmp_path / "text.safetensors", metadata=names)
    with pytest.raises(EmbeddingsError, match=rf"text\.safetensors: damaged, or no text embeddings \('{key}'\)"):
        TextEmbeddings.load(tmp_path / "text.safetensors")


@pytest.mark.parametrize("key", ["vectors", "anatomy_vectors"])
def test_a_file_without_one_of_its_tensors_is_refused(tmp_path, key):
    embeddings = small()
    names = {name: json.dumps(getattr(embeddings, name)) for name in ("findings", "aspects", "about")}
    tensors = {name: getattr(embeddings, name) for name in ("vectors", "anatomy_vectors") if name != key}
    save_file(tensors, tmp_path / "text.safetensors", metadata=names)
    with pytest.raises(EmbeddingsError, match=r"text\.safetensors: damaged, or no text embeddings"):
        TextEmbeddings.load(tmp_path / "text.safetensors")


def test_a_file_without_any_names_is_refused(tmp_path):
    save_file({"vectors": torch.zeros(1)}, tmp_path / "text.safetensors")
    with pytest.raises(EmbeddingsError, match=r"text\.safetensors: damaged, or no text embeddings"):
        TextEmbeddings.load(tmp_path / "text.safetensors")


def test_the_cache_is_hit_by_the_same_texts_and_encoder(encoder, calls, tmp_path):
    first = build_embeddings(BOOKS, FINDINGS, encoder, cache=tmp_path)
    again = build_embeddings(Books(BOOKS.sentences, {"books/b.json": "b2"}), FINDINGS, encoder, cache=tmp_path)
    assert calls == [3 * 9 + 51]
    assert torch.equal(again.vectors, first.vectors)
    assert torch.equal(again.anatomy_vectors, first.anatomy_vectors)
    assert again.about["books"] == {"books/b.json": "b2"}


def test_the_cache_is_missed_by_other_weights_under_the_same_name(folder, calls, tmp_path):
    encoded = []
    for seed in (0, 1, 0):
        name = str(_with_other_weights(folder, tmp_path / "bert", seed))
        before = len(calls)  # random weights are made by encoding too
        build_embeddings(BOOKS, FINDINGS, TransformerEncoder(name), cache=tmp_path / "cache")
        encoded.append(len(calls) - before)
    assert encoded == [1, 1, 0]


def test_the_cache_is_missed_when_anything_differs(folder, encoder, calls, tmp_path):
    changed = json.loads(json.dumps(BOOKS.sentences))
    changed["mass"]["shape"] += " (round)"
    cases = [
        (BOOKS, FINDINGS, encoder),
        (Books(changed, BOOKS.hashes), FINDINGS, encoder),
        (BOOKS, FINDINGS[::-1], encoder),
        (BOOKS, FINDINGS, TransformerEncoder(folder, sep=True)),
        (BOOKS, FINDINGS, TransformerEncoder(folder, max_length=64)),
        (BOOKS, FINDINGS, TransformerEncoder(folder, lower_case=False)),
    ]
    for books, findings, text_encoder in cases:
        build_embeddings(books, findings, text_encoder, cache=tmp_path / "cache")
    assert len(calls) == len(list((tmp_path / "cache").iterdir())) == len(cases)


def test_without_a_cache_nothing_is_kept(encoder, calls):
    build_embeddings(BOOKS, FINDINGS, encoder)
    build_embeddings(BOOKS, FINDINGS, encoder)
    assert len(calls) == 2


def test_a_saved_file_loads_equal_and_others_may_read_it(encoder, tmp_path):
    embeddings = build_embeddings(BOOKS, FINDINGS, encoder)
    embeddings.save(tmp_path / "new" / "text.safetensors")
    loaded = TextEmbeddings.load(tmp_path / "new" / "text.safetensors")
    assert (loaded.findings, loaded.aspects, loaded.about) == (
        embeddings.findings,
        embeddings.aspects,
        embeddings.about,
    )
    assert torch.equal(loaded.vectors, embeddings.vectors)
    assert torch.equal(loaded.anatomy_vectors, embeddings.anatomy_vectors)
    (tmp_path / "plain").touch()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new" / "text.safetensors", tmp_path / "plain")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_a_file_of_another_precision_is_read_as_float32(tmp_path, precision):
    whole = small()
    vectors, anatomy_vectors = whole.vectors.to(precision), whole.anatomy_vectors.to(precision)
    replace(whole, vectors=vectors, anatomy_vectors=anatomy_vectors).save(tmp_path / "text.safetensors")
    loaded = TextEmbeddings.load(tmp_path / "text.safetensors")
    assert loaded.vectors.dtype == loaded.anatomy_vectors.dtype == torch.float32
    assert torch.equal(loaded.vectors, whole.vectors)  # small integers are exact in all of them


def test_a_failed_save_leaves_the_former_file_and_no_other(monkeypatch, tmp_path):
    small().save(tmp_path / "text.safetensors")
    monkeypatch.setattr("mavl.files.os.fsync", lambda file: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        small(["d"]).save(tmp_path / "text.safetensors")
    assert TextEmbeddings.load(tmp_path / "text.safetensors").findings == ("a", "b", "c")
    assert [path.name for path in tmp_path.iterdir()] == ["text.safetensors"]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "text.safetensors"
    small().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(EmbeddingsError, match=r"text\.safetensors: damaged"):
        TextEmbeddings.load(path)


def test_processes_that_build_the_same_embeddings_at_once_leave_one_good_file(folder, encoder, tmp_path):
    context = multiprocessing.get_context("fork")  # torch and transformers are imported already
    barrier = context.Barrier(2)
    processes = [context.Process(target=_build, args=(folder, tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    [path] = tmp_path.iterdir()
    expected = build_embeddings(BOOKS, FINDINGS, encoder)
    torch.testing.assert_close(TextEmbeddings.load(path).vectors, expected.vectors, rtol=0, atol=1e-5)


def _build(folder: str, cache: Path, barrier) -> None:
    torch.set_num_threads(1)  # a forked process cannot use its parent's threads

    class Meeting(TransformerEncoder):
        def encode(self, sentences, device="cpu"):
            barrier.wait(30)  # both processes have missed the cache
            return super().encode(sentences, device)

    build_embeddings(BOOKS, FINDINGS, Meeting(folder), cache=cache)


def _with_other_weights(folder: str, target: Path, seed: int = 1) -> Path:
    words = [line for line in (Path(folder) / "vocab.txt").read_text().split() if not line.startswith(("#", "["))]
    return write_random_bert(target, words, seed=seed, width=32, layers=1)


def test_a_description_alone_stands_for_every_aspect_and_is_printed(encoder, capsys):
    books = Books(BOOKS.sentences | {"silicosis": {"description": "Silica in the lung."}}, BOOKS.hashes)
    embeddings = build_embeddings(books, ["silicosis", "mass"], encoder)
    expected = encoder.encode(["Silica in the lung."])
    torch.testing.assert_close(embeddings.vectors[0], expected.expand(9, -1), rtol=0, atol=1e-6)
    assert "note: 1 finding without aspects in the books, silicosis: the description stands" in capsys.readouterr().err
    build_embeddings(books, ["silicosis"], encoder, ["description"])
    assert capsys.readouterr().err == ""


def test_a_finding_with_some_aspects_is_refused(encoder):
    books = Books({"silicosis": {"description": "Silica.", "border": "border: sharp"}}, {})
    with pytest.raises(BookError, match="'silicosis' has no fluid, location"):
        build_embeddings(books, ["silicosis"], encoder)


def test_own_anatomies_are_kept_and_must_agree(encoder, tmp_path):
    own = ("left lung", "right lung", "unspecified")
    first = build_embeddings(BOOKS, ["mass"], encoder, cache=tmp_path, anatomies=own)
    torch.testing.assert_close(first.anatomy_vectors, encoder.encode([f"It is located at {name}" for name in own]))
    first.save(tmp_path / "text.safetensors")
    again, cached = (
        TextEmbeddings.load(tmp_path / "text.safetensors"),
        build_embeddings(BOOKS, ["mass"], encoder, cache=tmp_path, anatomies=own),
    )
    assert again.anatomies == cached.anatomies == own
    assert torch.equal(cached.anatomy_vectors, first.anatomy_vectors)
    with pytest.raises(EmbeddingsError, match="other anatomies than the model"):
        first.extended(build_embeddings(BOOKS, ["edema"], encoder))


def test_embeddings_keep_the_sentences_that_were_encoded(tmp_path):
    words = {"edema": {"description": "Fluid.", "border": "border: none"}, "mass": {"description": "Round."}}
    first, second = small(["edema"]), small(["mass"])
    first, second = (replace(each, sentences={name: words[name]}) for each, name in ((first, "edema"), (second, "mass")))
    both = first.extended(second)
    assert both.sentences == words
    assert both.select(["mass"]).sentences == {"mass": words["mass"]}
    both.save(tmp_path / "text.safetensors")
    assert TextEmbeddings.load(tmp_path / "text.safetensors").sentences == words
