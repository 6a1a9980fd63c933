"""The text of a pre-training: embeddings of its findings, vectors of its reports, the encoder of both."""

from pathlib import Path

import torch
from accelerate import Accelerator

from mavl import checkpoint
from mavl.checkpoint.folder import EMBEDDINGS
from mavl.config.data import ReportData
from mavl.config.loader import cache_folder
from mavl.config.settings import RANDOM, PretrainSettings
from mavl.data.labels import LabelStore
from mavl.progress import note
from mavl.text.books import Books
from mavl.text.embeddings import SAME_ENCODER, TextEmbeddings, build_embeddings
from mavl.text.encoder import load_text_encoder
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.protocol import TextEncoderError
from mavl.text.reports import ReportVectors, encode_reports
from mavl.train.checkpoints import ResumeError
from mavl.vocab import anatomy_sentence

ENCODER_SETTINGS = ("sep", "max_length", "lower_case", "pooling", "normalize")
"""Of the section `text`: arguments of the encoder, which gets those that are not "auto"."""


def text_embeddings(settings: PretrainSettings, books: Books, output_dir: Path) -> tuple[TextEmbeddings, dict]:
    """The embeddings of the findings and aspects to train on, and the arguments of the encoder, with its name.

    An encoder of random weights is written into the run folder, unless it is there.
    """
    text, name = settings.text, _encoder_name(settings, books, output_dir)
    chosen = {key: value for key in ENCODER_SETTINGS if (value := getattr(text, key)) != "auto"}
    encoder, cache = load_text_encoder(name, **chosen), cache_folder(text.cache)
    findings, aspects, anatomies = settings.findings, settings.model.aspects, settings.anatomies
    embeddings = build_embeddings(books, findings, encoder, aspects, cache, anatomies)
    embeddings = embeddings.with_own_scaling(text.scaling)
    return embeddings, {"encoder": name, **encoder.tokenisation, "scaling": text.scaling}


def _encoder_name(settings: PretrainSettings, books: Books, output_dir: Path) -> str:
    """The name of the encoder, or the folder of one of random weights; with a note where that is the fallback.

    A run that began with the fallback goes on with it.
    """
    text, folder = settings.text, output_dir / checkpoint.TEXT_ENCODER
    if text.encoder != RANDOM:
        if text.fallback is None:
            return text.encoder
        if not folder.exists():
            try:
                load_text_encoder(text.encoder).encode([settings.anatomies[0]])
                return text.encoder
            except TextEncoderError as error:
                note(f"note: {error}; text.fallback: an encoder of random weights is used instead")
    if not folder.exists():
        sentences = [sentence for aspects in books.sentences.values() for sentence in aspects.values()]
        write_random_bert(folder, [*sentences, *map(anatomy_sentence, settings.anatomies)], text.seed)
    return str(folder)


def refuse_other_text(embeddings: TextEmbeddings, folder: Path) -> None:
    """ResumeError where the last model of a run, if there is one, has other text vectors than it would go on with."""
    stored = folder / checkpoint.LAST / EMBEDDINGS
    if stored.exists():
        before = TextEmbeddings.load(stored)
        alike = before.findings == embeddings.findings and before.vectors.shape == embeddings.vectors.shape
        if not alike or not torch.allclose(before.vectors, embeddings.vectors, rtol=0, atol=SAME_ENCODER):
            fix = "set text.pooling, normalize and sep as mavl.json beside it states them, or start a new run"
            raise ResumeError(
                f"{stored}: other text vectors than now, by another encoder or another reading of it; {fix}"
            )


def report_vectors(
    settings: PretrainSettings, text: dict, output_dir: Path, accelerator: Accelerator
) -> ReportVectors | None:
    """The vectors of the reports, None where they are not compared with images.

    text: keyword arguments of the text encoder, with its name.
    """
    if not settings.train.report_weight:
        return None
    assert isinstance(settings.data, ReportData)
    encoder = load_text_encoder(text["encoder"], **{key: value for key, value in text.items() if key != "encoder"})
    studies = len(LabelStore(Path(settings.data.label_file)))
    folder, device = cache_folder(settings.text.cache) or output_dir, str(accelerator.device)
    return encode_reports(Path(settings.data.sentences_file), studies, encoder, folder, device)
