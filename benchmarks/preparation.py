"""What runs before a training: text embeddings, labels from RadGraph's graphs, checks of image files, phantoms."""

import csv
import gzip
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import torch
from PIL import Image

from benchmarks.statistics import seconds
from mavl.config.settings import TextSettings
from mavl.data import phantom
from mavl.data.checks import check_images
from mavl.text.books import read_books
from mavl.text.embeddings import build_embeddings
from mavl.text.encoders.random_bert import SPECIAL_TOKENS
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.vocab import FINDINGS

ROOT = Path(__file__).resolve().parents[1]

PADDED, SAMPLE = 128, 8
"""Every SAMPLE-th sentence is encoded padded; the rest of that time is extrapolated."""

CHECKED, DRAWN = 1_000, 20

GRAPHS, SENTENCES = 1_000, 16
"""Different graphs, and sentences of each."""
OPENING = "FINAL REPORT EXAMINATION : CHEST ( PA AND LAT ) INDICATION : ___ year old with cough . COMPARISON : None ."
PLACES = (
    "right lower lobe|left lower lobe|left upper lobe|right middle lobe|heart|mediastinal contour|left hemidiaphragm|"
    "lungs|lung volumes|pleural space|right apex|left lung base|right hilum|aorta|svc|costophrenic angles|stomach|spine"
).split("|")
OBSERVATIONS = (
    "opacities effusions pneumothorax edema atelectasis consolidation enlarged tube catheter scarring nodules clear "
    "normal fractures calcified thickening unremarkable haziness spur aspirations"
).split()
SIZES = "small moderate large mild new unchanged".split()
LABELS = ("OBS-DP", "OBS-DP", "OBS-DA", "OBS-U")


def files() -> None:
    """Some 10 seconds on one core: the check of image headers before a run, and phantoms; processor time."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(CHECKED)]
        Image.fromarray(phantom.draw(0, 0, 512).image).save(paths[0], quality=95)
        for path in paths[1:]:
            path.write_bytes(paths[0].read_bytes())
        took = seconds(lambda: check_images(paths, "header", workers=1, progress=False), time.process_time)
        print(f"headers of {CHECKED:,} JPEGs of 512 pixels: {took:.2f} s")
    for size in (112, 224):
        took = seconds(lambda: [phantom.draw(0, number, size) for number in range(DRAWN)], time.process_time)  # noqa: B023
        print(f"a phantom of {size} pixels: {1000 * took / DRAWN:.0f} ms")


# Text embeddings ------------------------------------------------------------------------------------------------------


def text() -> None:
    """Some 2 minutes on two cores: 75 findings by a BERT-base, sorted by length, padded to 128, and from the cache.

    The weights are random and cost what trained ones cost. The vocabulary has every word of the books, so that
    sentences are about as long as BERT's own vocabulary makes them (16.6 tokens on average by bert-base-uncased).
    """
    settings = TextSettings()
    books = read_books(settings.descriptions, settings.aspects)
    sentences = [sentence for finding in FINDINGS for sentence in books.sentences[finding].values()]
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "bert", Path(name) / "cache"
        write_bert(folder, sentences)
        encoder = TransformerEncoder(str(folder))
        lengths = [len(ids) for ids in encoder.token_ids(sentences)]
        some = sentences[::SAMPLE]
        encode_padded(encoder, some[:8])
        padded = seconds(lambda: encode_padded(encoder, some)) * len(sentences) / len(some)
        cold = seconds(lambda: build_embeddings(books, FINDINGS, encoder, cache=cache))
        warm = seconds(lambda: build_embeddings(books, FINDINGS, TransformerEncoder(str(folder)), cache=cache))
    print(f"{len(sentences)} sentences, {sum(lengths) / len(lengths):.0f} tokens on average: {cold:.1f} s", end="; ")
    print(f"padded to {PADDED}, extrapolated from {len(some)}: {padded:.0f} s ({padded / cold:.1f} times)", end="; ")
    print(f"from the cache: {warm:.3f} s")


def write_bert(folder: Path, sentences: Iterable[str]) -> None:
    """A BERT-base of random weights whose vocabulary has the words of the sentences."""
    from transformers import BertConfig, BertModel

    words = {word for sentence in sentences for word in re.findall(r"\w+|[^\w\s]", sentence.lower())}
    vocabulary = [*SPECIAL_TOKENS, *sorted(words)]
    BertModel(BertConfig(vocab_size=len(vocabulary)), add_pooling_layer=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


@torch.no_grad()
def encode_padded(encoder: TransformerEncoder, sentences: list[str]) -> None:
    """As the release does: batches in the order of the book, each sentence padded to PADDED tokens."""
    for start in range(0, len(sentences), encoder.batch_size):
        ids = encoder.token_ids(sentences[start : start + encoder.batch_size])
        tokens, mask = torch.zeros(len(ids), PADDED, dtype=torch.long), torch.zeros(len(ids), PADDED, dtype=torch.long)
        for row, each in enumerate(ids):
            tokens[row, : len(each)], mask[row, : len(each)] = torch.tensor(each), 1
        encoder.model(input_ids=tokens, attention_mask=mask)


# Labels from RadGraph's graphs ----------------------------------------------------------------------------------------


def radgraph(numbers: Iterable[int], workers: int) -> None:
    """`prepare_data.py radgraph` on synthetic reports: time, and peak memory of its processes, which must not grow.

    200,000 reports take two minutes on two cores and 2.2 GB of disk, removed at the end.
    """
    for reports in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_graphs(folder / "graphs.json", reports)
            write_tables(folder, reports)
            print(f"{reports:,} reports, {workers} processes: {label(folder, workers)}", flush=True)


def label(folder: Path, workers: int) -> str:
    command = [sys.executable, str(ROOT / "prepare_data.py"), "radgraph", "--graphs", str(folder / "graphs.json")]
    command += ["--root", str(folder), "--out", str(folder / "out"), "--workers", str(workers)]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(folder / "log.txt", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        peak = peak_memory(process)
        if process.returncode:
            raise RuntimeError((folder / "log.txt").read_text(encoding="utf-8"))
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{took:.1f} s, {processor:.1f} s of processor time, at most {peak / 2**20:,.0f} MB in memory"


def peak_memory(process: subprocess.Popen) -> int:
    """The most resident bytes of the process and its children together; shared memory counts once per process."""
    peak, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, sum(each.memory_info().rss for each in (parent, *parent.children(recursive=True))))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)
    return peak


def write_graphs(path: Path, reports: int) -> None:
    """A file like RadGraph's MIMIC-CXR_graphs.json, with random sentences in each report."""
    rng = random.Random(0)
    graphs = [json.dumps(graph(rng)) for _ in range(GRAPHS)]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(reports):
            patient, study = ids(number)
            key = f"p{patient // 1_000_000}/p{patient}/s{study}.txt"
            file.write(f"{', ' if number else '{'}{json.dumps(key)}: {rng.choice(graphs)}")
        file.write("}")


def graph(rng: random.Random) -> dict:
    tokens: list[str] = [*OPENING.split()]
    entities: dict[str, dict] = {}

    def add(words: str, kind: str, relation: str = "", steps: int = 0) -> None:
        """An entity, with a relation to the one that comes so many steps after it."""
        number = len(entities) + 1
        relations = [[relation, str(number + steps)]] if relation else []
        span = {"start_ix": len(tokens), "end_ix": len(tokens) + len(words.split()) - 1}
        entities[str(number)] = {"tokens": words, "label": kind, **span, "relations": relations}
        tokens.extend(words.split())

    for _ in range(SENTENCES):
        tokens.extend(("There", "is"))
        add(rng.choice(SIZES), "OBS-DP", "modify", 1)
        *modifiers, root = rng.choice(PLACES).split() if rng.random() < 0.7 else [""]
        observation = rng.choice(OBSERVATIONS), rng.choice(LABELS)
        add(*observation, *(("located_at", len(modifiers) + 1) if root else ()))
        for before, modifier in enumerate(modifiers):
            add(modifier, "ANAT-DP", "modify", len(modifiers) - before)
        if root:
            add(root, "ANAT-DP")
        tokens.append(".")
    return {"text": " ".join(tokens), "entities": entities, "data_source": None, "data_split": "inference"}


def write_tables(folder: Path, reports: int) -> None:
    """MIMIC-CXR-JPG's split and metadata CSV, with a frontal and a lateral image per study."""
    for name, column in (("split", "split"), ("metadata", "ViewPosition")):
        with gzip.open(folder / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt", newline="", compresslevel=1) as file:
            header = ["dicom_id", "subject_id", "study_id", column]
            rows = csv.DictWriter(file, header, extrasaction="ignore")
            rows.writeheader()
            rows.writerows(image_rows(reports))


def image_rows(reports: int) -> Iterator[dict]:
    for number in range(2 * reports):
        patient, study = ids(number // 2)
        split = "test" if study % 50 == 0 else "validate" if study % 50 == 1 else "train"
        row = {"dicom_id": f"{number:08x}-bde0afdd-112c0b34-7bc16630-4e384014", "subject_id": patient}
        yield row | {"study_id": study, "split": split, "ViewPosition": ("PA", "LATERAL", "AP", "LL")[number % 4]}


def ids(number: int) -> tuple[int, int]:
    """Patient id and study id."""
    return 10_000_000 + number // 3, 50_000_000 + number
