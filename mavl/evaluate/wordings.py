"""How much zero-shot numbers hang on words: one benchmark scored under several wordings of the same findings.

    result = run(load(ZeroShotSettings, path, ["sensitivity={}"]))
    result.spreads["nodule"].low, result.spreads["nodule"].high      # AUROC under the least and the most lucky wording
    result.ablated["nodule"].low                                      # and with the most harmful of the ablations

Every image is read, and goes through the backbone, once for all wordings.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from mavl.checkpoint.folder import Pretrained
from mavl.config.loader import dump
from mavl.config.settings import SensitivitySettings, ZeroShotSettings
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.subject import (
    EvaluationError,
    Subject,
    Thresholds,
    bank_cache,
    describe,
    open_model,
    open_split,
    prepare,
    result_folder,
    text_encoder,
    without_bad_images,
)
from mavl.metrics.classification import evaluate
from mavl.metrics.wordings import Sensitivity, Wording
from mavl.model.inference import in_parts
from mavl.model.scores import scores
from mavl.text.books import Books, read_books
from mavl.text.embeddings import SAME_ENCODER, TextEmbeddings, build_embeddings
from mavl.text.wordings import ABLATION, OWN, REFERENCE, Variant, built_in_variants, write_books
from mavl.vocab import ABSENT, DESCRIPTION, PRESENT, UNKNOWN


def run(settings: ZeroShotSettings) -> Sensitivity | None:
    """Score and write as the settings say; the main process returns the result, the others return None."""
    plan = settings.sensitivity or SensitivitySettings()
    pretrained = open_model(settings)
    subject = prepare(settings, pretrained)
    varied = _varied(plan, subject)
    variants = wordings(settings, plan, pretrained, varied)
    with subject.accelerator.main_process_first():
        embeddings = {variant.name: _embeddings(settings, pretrained, subject, variant.books) for variant in variants}
    split = open_split(settings, subject.benchmark, settings.split)
    split, left_out = without_bad_images(settings, split, subject.accelerator.is_main_process)
    if not any({PRESENT, ABSENT} <= set(labels) for labels in split.labels.T.tolist()):
        raise EvaluationError(f"{subject.benchmark.name} {split.name}: no finding has both labels, nothing to compare")
    scored = _score(settings, subject, split, embeddings)
    if not subject.accelerator.is_main_process:
        return None
    none = Thresholds(None, None, "none: a comparison of AUROCs")
    about = describe(settings, subject, none, left_out, head=settings.head, varied=list(varied))
    about["as_trained"] = torch.allclose(embeddings[REFERENCE].vectors, subject.embeddings.vectors, atol=SAME_ENCODER)
    kind = f"{settings.head}_sensitivity" + ("_new" if plan.vary == "new" else "")
    folder = result_folder(settings, subject.benchmark, kind)
    dump(settings, folder / "config.yaml")
    shutil.rmtree(folder / "books", ignore_errors=True)  # a former run's, of other wordings
    for variant in variants:
        write_books(folder / "books" / variant.name.replace(" ", "_"), variant.books)
    result = Sensitivity([_judge(settings, split, scored, variant, variants[0]) for variant in variants], about, folder)
    from mavl.report import wordings as sensitivity_report  # matplotlib and rich only where they are needed

    sensitivity_report.write(result)
    return result


def wordings(
    settings: ZeroShotSettings, plan: SensitivitySettings, pretrained: Pretrained, varied: Sequence[str]
) -> list[Variant]:
    """The books as they are, their built-in variants, then the user's; each with the text of the varied findings."""
    aspects = pretrained.model.aspects

    def read(**more: Sequence[str]) -> Books:
        descriptions = [*settings.descriptions, *more.get("descriptions", ())]
        lines = [*settings.aspects, *more.get("aspects", ())] if aspects != (DESCRIPTION,) else []
        books = read_books(descriptions, lines)
        books.require(varied, aspects)
        chosen = {name: {aspect: books.sentences[name][aspect] for aspect in aspects} for name in varied}
        return Books(chosen, books.hashes)

    books = read()
    variants = [
        Variant(REFERENCE, REFERENCE, books),
        *built_in_variants(books, varied, aspects, plan.built_in),
    ]
    for name, files in plan.variants.items():
        if name in [variant.name for variant in variants]:
            raise EvaluationError(f"sensitivity.variants: {name!r} is a built-in wording; give it another name")
        variants.append(Variant(name, OWN, read(**files.model_dump())))
    return variants


def _varied(plan: SensitivitySettings, subject: Subject) -> tuple[str, ...]:
    if plan.vary == "all":
        return subject.embeddings.findings
    new = tuple(name for name in subject.embeddings.findings if name not in subject.trained)
    if not new:
        raise EvaluationError("sensitivity.vary is new, but the model was trained with all findings; use vary: all")
    return new


def _embeddings(settings: ZeroShotSettings, pretrained: Pretrained, subject: Subject, books: Books) -> TextEmbeddings:
    """The subject's embeddings with other text for the findings of these books."""
    encoder, aspects = text_encoder(settings, pretrained), pretrained.model.aspects
    other = build_embeddings(books, tuple(books.sentences), encoder, aspects, bank_cache(settings))
    device = subject.accelerator.device
    kept = [name for name in subject.embeddings.findings if name not in books.sentences]
    return subject.embeddings.to("cpu").select(kept).extended(other).select(subject.embeddings.findings).to(device)


def _score(
    settings: ZeroShotSettings, subject: Subject, split: Split, embeddings: dict[str, TextEmbeddings]
) -> dict[str, np.ndarray]:
    """{wording: scores [n, C]} of the split's images and findings."""
    inference_model = subject.inference_model(split.findings)
    inference_models = {name: inference_model.with_embeddings(embeddings) for name, embeddings in embeddings.items()}

    def compute(batch: dict) -> dict[str, Tensor]:
        images = batch["image"].contiguous(memory_format=torch.channels_last)  # as the inference_models take them
        parts = [
            {
                name: scores(asking(part), asking.embeddings, split.findings, settings.head)
                for name, asking in inference_models.items()
            }
            for part in in_parts(images)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in inference_models}

    with _computed_once(inference_model.model.backbone):
        return subject.predict(settings, split, compute)


@contextmanager
def _computed_once(backbone: nn.Module) -> Iterator[None]:
    """While it lasts, the backbone answers for the images that it saw last without computing anew."""
    compute: Callable = backbone.forward
    images, answer = None, None

    def remember(asked: Tensor):
        nonlocal images, answer
        if asked is not images:
            images, answer = asked, compute(asked)
        return answer

    backbone.forward = remember
    try:
        yield
    finally:
        del backbone.forward


def _judge(
    settings: ZeroShotSettings, split: Split, scored: dict[str, np.ndarray], variant: Variant, reference: Variant
) -> Wording:
    ours, theirs = scored[variant.name], scored[reference.name]
    evaluation = evaluate(
        split.labels,
        ours,
        split.findings,
        resamples=settings.resamples,
        groups=split.groups,
        seed=settings.seed,
    )
    flips = [_flips(label, *pair) for label, *pair in zip(split.labels.T, ours.T, theirs.T, strict=True)]
    text = variant.books.sentences
    changed = sum(text[name] != sentences for name, sentences in reference.books.sentences.items())
    return Wording(variant.name, variant.kind, variant.kind == ABLATION, evaluation, np.array(flips), changed)


def _flips(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    known = labels != UNKNOWN
    return float((1 - kendalltau(ours[known], theirs[known]).statistic) / 2)
