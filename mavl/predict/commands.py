"""What predict.py does with its arguments: scores by a pre-trained model or a classifier, outlines by a segmenter."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mavl.checkpoint.folder import CheckpointError
from mavl.config.settings import BUNDLED
from mavl.data.images.inputs import Failure
from mavl.predict import load, mask_files, segmenter
from mavl.predict.files import PAGE, Written, write_predictions
from mavl.progress import note
from mavl.provenance import training_sentence

OF_SCORES = ("books", "descriptions", "aspects", "text_encoder", "top")
"""The flags that do not apply to a segmenter."""


def score(arguments: Namespace, images: Sequence[Path], failures: Sequence[Failure]) -> tuple[Written, str]:
    """What was written, and the name of its page."""
    predictor = load(
        arguments.model,
        books=arguments.books,
        descriptions=arguments.descriptions,
        aspects=arguments.aspects,
        text_encoder=arguments.text_encoder,
    )
    _say_what_it_was_trained_on(arguments.model, predictor.trained_on)
    request = predictor.request(arguments.findings, arguments.top)
    options = {"batch_size": arguments.bs, "workers": arguments.num_workers, "overwrite": arguments.overwrite}
    return write_predictions(predictor, request, images, arguments.out, failures=failures, **options), PAGE


def outline(arguments: Namespace, images: Sequence[Path], failures: Sequence[Failure]) -> tuple[Written, str]:
    """What was written, and the name of its page; CheckpointError for flags that concern scores."""
    unused = [flag for flag in OF_SCORES if getattr(arguments, flag) not in (None, [])]
    if unused:
        raise CheckpointError(f"{arguments.model}: a fine-tuned segmenter takes no --{', no --'.join(unused)}")
    model = segmenter.load(arguments.model)
    _say_what_it_was_trained_on(arguments.model, model.trained_on)
    options = {"findings": arguments.findings or (), "failures": failures, "overwrite": arguments.overwrite}
    return mask_files.write_masks(model, arguments.model, images, arguments.out, **options), mask_files.PAGE


def _say_what_it_was_trained_on(model: str, trained_on: object) -> None:
    if training := training_sentence(trained_on):
        note(f"{model}, which comes with the package. {training}" if model == BUNDLED else training)
