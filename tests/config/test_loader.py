"""Configs: the meaning of YAML and overrides, and all their mistakes reported at once, in words, with their places."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from mavl.config.document import Document
from mavl.config.loader import ConfigError, Settings, dump, load


class ResNet(Settings):
    kind: Literal["resnet"]
    depth: Literal[18, 50] = 50


class ViT(Settings):
    kind: Literal["vit", "timm"]
    name: str


class Optimizer(Settings):
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.02
    betas: tuple[float, float] = (0.9, 0.999)


class Schedule(Settings):
    epochs: Annotated[int, Field(ge=1, lt=1000)] = 60
    warmup_epochs: int = 1

    @model_validator(mode="after")
    def warm_up_ends(self):
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"{self.warmup_epochs} warm-up epochs do not fit in {self.epochs}; lower warmup_epochs")
        return self


class Benchmark(Settings):
    name: str
    share: float | None = None


class Train(Settings):
    backbone: Annotated[ResNet | ViT, Field(discriminator="kind")]
    optimizer: Optimizer = Optimizer(lr=1e-4)
    schedule: Schedule | None = None
    benchmarks: list[Benchmark] = Field(default_factory=list)
    renames: dict[str, Benchmark] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=lambda: [0])
    books: dict[str, Path] = Field(default_factory=dict)
    precision: Literal["no", "fp16"] = "no"
    crop: int | tuple[int, int] = 224
    resume: bool = False
    title: str = ""


RESNET = "backbone: {kind: resnet}\n"
ALIASES_OF_ALIASES = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 11)
)
"""350 bytes that stand for 9 to the power of 10 values."""
LONG_ALIASES = b"a: &a %s\nb: [%s]" % (20_000 * b"x", b", ".join([b"*a"] * 300))
"""21 KB that stand for 6 MB of text."""


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "train.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def problems(path, overrides=(), **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Train, path, overrides, **options)
    return caught.value.problems


def test_a_file_is_read_into_types(write):
    settings = load(
        Train,
        write("""\
            backbone: {kind: timm, name: vit_base_patch16_224}
            optimizer:
              lr: 1
              betas: [0.9, 0.95]
            schedule: {epochs: 40}
            benchmarks:
              - name: rsna
              - {name: siim, share: 0.1}
            renames: {no: {name: normal}, 1: {name: one}}
            books: {aspects: books/aspects.json}
            crop: [224, 320]
            resume: true
            """),
    )
    assert settings.backbone == ViT(kind="timm", name="vit_base_patch16_224")
    assert settings.optimizer == Optimizer(lr=1.0, betas=(0.9, 0.95))
    assert isinstance(settings.optimizer.lr, float)
    assert settings.schedule == Schedule(epochs=40, warmup_epochs=1)
    assert settings.benchmarks == [Benchmark(name="rsna"), Benchmark(name="siim", share=0.1)]
    assert settings.renames == {"no": Benchmark(name="normal"), "1": Benchmark(name="one")}
    assert settings.books == {"aspects": Path("books/aspects.json")}
    assert settings.crop == (224, 320)
    assert settings.resume is True
    assert settings.seeds == [0]


def test_settings_are_frozen_and_closed():
    optimizer = Optimizer(lr=1)
    with pytest.raises(ValidationError):
        optimizer.lr = 2
    with pytest.raises(ValidationError):
        Optimizer(lr=1, momentum=0.9)
    with pytest.raises(ValidationError):
        Optimizer(lr="abc")
    with pytest.raises(ValidationError):
        Schedule(epochs=1.5)
    with pytest.raises(ValidationError):
        Optimizer(lr=float("inf"))


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-5", 1e-5), ("1E5", 1e5), ("5.e-3", 5e-3), (".5e2", 50.0), ("+.5", 0.5), ("2.5e+3", 2500.0), ("0x1F", 31)],
)
def test_exponents_make_numbers(write, text, number):
    assert load(Train, write(f"{RESNET}optimizer: {{lr: {text}}}")).optimizer.lr == number
    assert load(Train, write(RESNET), [f"optimizer.lr={text}"]).optimizer.lr == number


def test_words_and_dates_stay_text(write):
    settings = load(Train, write(RESNET + "precision: no\ntitle: 2024-01-01"))
    assert (settings.precision, settings.title) == ("no", "2024-01-01")
    assert load(Train, write(RESNET + "title: '1e-5'")).title == "1e-5"


@pytest.mark.parametrize(("text", "number"), [("017", 17), ("-08", -8), ("+7", 7), ("0o17", 15), ("0x1f", 31)])
def test_whole_numbers_are_those_of_yaml_1_2(write, text, number):
    assert load(Train, write(f"{RESNET}crop: {text}")).crop == number
    assert load(Train, write(RESNET), [f"crop={text}"]).crop == number


@pytest.mark.parametrize(
    "text", ["12:30", "12:30:00", "1:30.5", "1_000", "1_0.5", "0b11", "0o8", "yes", "off", "1.2.3"]
)
def test_what_only_yaml_1_1_reads_as_a_number_or_a_boolean_is_text(write, text):
    assert load(Train, write(f"{RESNET}title: {text}")).title == text
    assert load(Train, write(RESNET), [f"title={text}"]).title == text


def test_merge_keys_and_anchors_are_no_duplicates(write):
    path = write("""\
backbone: {kind: resnet}
renames:
  first: &first {name: one, share: 0.5}
  second: &second {<<: *first, name: two}
  third: *second
""")
    renames = load(Train, path, ["renames.third.share=1"]).renames
    assert renames["second"] == Benchmark(name="two", share=0.5)
    assert renames["third"] == Benchmark(name="two", share=1.0)


def test_overrides_are_yaml_in_order(write):
    path = write(RESNET + "optimizer: {lr: 1, weight_decay: 0.5}\nschedule: {epochs: 5}\nseeds: [1, 2]")
    settings = load(
        Train,
        path,
        [
            "optimizer.lr=3",
            "optimizer.lr=1e-3",
            "optimizer.betas=[0.5, 0.6]",
            "schedule=null",
            "seeds=[7]",
            "title=a=b:c",
            "books={a: b.json}",
            "books.c=d.json",
            "renames.new.name=made",
            "backbone={kind: vit, name: b16}",
        ],
    )
    assert settings.optimizer == Optimizer(lr=1e-3, weight_decay=0.5, betas=(0.5, 0.6))
    assert settings.schedule is None
    assert settings.seeds == [7]
    assert settings.title == "a=b:c"
    assert settings.books == {"a": Path("b.json"), "c": Path("d.json")}
    assert settings.renames == {"new": Benchmark(name="made")}
    assert settings.backbone == ViT(kind="vit", name="b16")


def test_an_override_makes_the_sections_on_its_way(write):
    assert load(Train, write(RESNET + "schedule: null"), ["schedule.epochs=3"]).schedule == Schedule(epochs=3)
    settings = load(Train, None, ["backbone.kind=resnet", "backbone.depth=18"])
    assert settings.backbone == ResNet(kind="resnet", depth=18)


def test_every_problem_is_reported_at_once(write):
    path = write("""\
backbone:
  kind: resnet
  depth: 34
lr: 1e-4
optimizer:
  lr: fast
  lr: 0
  weight_decay: 1.5
  bettas: [0.9, 0.999]
  betas: [0.9]
schedule:
  epochs: 1.5
benchmarks:
  - {name: rsna}
  - share: 0.1
renames:
  a: {name: 3, name: b, shares: 1}
seeds: [1, two]
resume: yes
precision: fp61
""")
    assert problems(path, ["seed=3", "title", "crop=wide", "schedule.warmup_epochs=[1", "optimzer.lr=1"]) == [
        "line 7: lr: given twice, first on line 6",
        "line 17: name: given twice, first on line 17",
        "--override title: expected key=value, such as optimizer.lr=1e-5",
        "--override schedule.warmup_epochs=[1: the value is not YAML: line 1, column 3: "
        "expected ',' or ']', but got '<stream end>' while parsing a flow sequence",
        "line 3: backbone.depth = 34: expected 18 or 50",
        "line 7: optimizer.lr = 0: expected a value greater than 0",
        "line 8: optimizer.weight_decay = 1.5: expected a value less than or equal to 1",
        "line 10: optimizer.betas.1: missing",
        "line 9: optimizer.bettas = [0.9, 0.999]: unknown key 'bettas'; did you mean 'betas'?",
        "line 12: schedule.epochs = 1.5: expected a whole number",
        "line 15: benchmarks.1.name: missing",
        "line 17: renames.a.shares = 1: unknown key 'shares'; did you mean 'share'?",
        'line 18: seeds.1 = "two": expected a whole number',
        "line 20: precision = \"fp61\": expected 'no' or 'fp16'; did you mean 'fp16'?",
        '--override crop=wide: crop = "wide": expected a whole number or a list',
        'line 19: resume = "yes": expected true or false',
        "line 4: lr = 0.0001: unknown key 'lr'; did you mean 'optimizer.lr'?",
        "--override seed=3: seed = 3: unknown key 'seed'; did you mean 'seeds'?",
        "--override optimzer.lr=1: optimzer = {\"lr\": 1}: unknown key 'optimzer'; did you mean 'optimizer'?",
    ]


def test_several_problems_are_listed_below_the_files_name(write):
    path = write("backbone: {kind: resnet}\nseeds: 1\ntitle: 2")
    with pytest.raises(ConfigError) as caught:
        load(Train, path)
    assert str(caught.value).splitlines() == [
        f"{path}: 2 problems",
        "  line 2: seeds = 1: expected a list",
        "  line 3: title = 2: expected text (in quotes, if it looks like something else)",
    ]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("resnet", 'line 1: backbone = "resnet": expected a section of keys and values'),
        ("{depth: 18}", "line 1: backbone.kind: missing; expected 'resnet', 'vit' or 'timm'"),
        (
            "{kind: resnt}",
            "line 1: backbone.kind = \"resnt\": expected 'resnet', 'vit' or 'timm'; did you mean 'resnet'?",
        ),
        ("{kind: vit}", "line 1: backbone.name: missing"),
        ("{kind: vit, name: b, nam: c}", "line 1: backbone.nam = \"c\": unknown key 'nam'; did you mean 'name'?"),
        ("null", "line 1: backbone = null: expected a section of keys and values"),
    ],
)
def test_sections_chosen_by_kind(write, section, problem):
    assert problems(write(f"backbone: {section}")) == [problem]


def test_missing_sections_are_named():
    with pytest.raises(ConfigError) as caught:
        load(Train, None)
    assert str(caught.value) == "settings without a file: backbone: missing"


def test_keys_of_other_sections_and_unlike_anything(write):
    assert problems(write(RESNET + "schedule: {share: 1}")) == [
        "line 2: schedule.share = 1: unknown key 'share'; did you mean 'benchmarks.*.share' or 'renames.*.share'?"
    ]
    assert problems(write(RESNET + "schedule: {xyz: 1}")) == [
        "line 2: schedule.xyz = 1: unknown key 'xyz'; known: epochs, warmup_epochs"
    ]


def test_a_sections_own_check_names_the_section(write):
    path = write(RESNET + "schedule:\n  epochs: 2\n  warmup_epochs: 3")
    words = 'schedule = {"epochs": 2, "warmup_epochs": 3}: 3 warm-up epochs do not fit in 2; lower warmup_epochs'
    assert problems(path) == [f"line 2: {words}"]
    assert problems(write(RESNET), ["schedule.epochs=2", "schedule.warmup_epochs=3"]) == [
        f"--override schedule.epochs=2 --override schedule.warmup_epochs=3: {words}"
    ]


def test_the_place_of_a_mistake_is_what_gave_its_value(write):
    """A section of the file stays at its line when an override changes a key in it; the last override counts."""
    path = write(RESNET + "schedule: {epochs: 2}")
    words = 'schedule = {"epochs": 2, "warmup_epochs": 3}: 3 warm-up epochs do not fit in 2; lower warmup_epochs'
    assert problems(path, ["schedule.warmup_epochs=3"]) == [f"line 2: {words}"]
    whole = "schedule={warmup_epochs: 0.5}"
    assert problems(path, [whole]) == [f"--override {whole}: schedule.warmup_epochs = 0.5: expected a whole number"]
    assert problems(path, ["title=1", "title=2"]) == [
        "--override title=2: title = 2: expected text (in quotes, if it looks like something else)"
    ]


@pytest.mark.parametrize("text", ["'1'", "true", "null", "[1]", ".inf", ".nan"])
def test_only_finite_numbers_are_numbers(write, text):
    assert "optimizer.lr" in problems(write(f"{RESNET}optimizer: {{lr: {text}}}"))[0]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("=1", "expected key=value"),
        ("optimizer..lr=1", "expected key=value"),
        ("title=", "no value; write null for none, '' for empty text"),
        ("seeds.0=1", "seeds is [1], no section; override it whole"),
        ("books={a: x, a: y}", "a: given twice, first on line 1"),
        ("title=!!python/name:os.system x", "the tag !!python/name:os.system is refused; a config is plain YAML"),
    ],
)
def test_bad_overrides(write, override, reason):
    (problem,) = problems(write(RESNET + "seeds: [1]"), [override])
    assert problem.startswith(f"--override {override}: {reason}")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        (".".join(5000 * "a") + "=1", "expected key=value, such as optimizer.lr=1e-5"),
        (".".join(101 * "a") + "=1", "expected key=value, such as optimizer.lr=1e-5"),
        (".".join(100 * "a") + "=1", 'a = {"a": {"a": '),
        ("title." + 74 * "x" + "=", "no value; write null for none"),
        ("title=" + 3000 * "[", "the value is not YAML: nested more than 100 levels deep"),
    ],
)
def test_a_long_bad_override_is_shown_in_part(write, override, reason):
    (problem,) = problems(write(RESNET), [override])
    assert problem.startswith(f"--override {override[:79]}…: {reason}")


def test_an_override_of_80_characters_and_a_value_of_60_are_shown_whole(write):
    override = "title." + 73 * "x" + "="
    assert problems(write(RESNET), [override]) == [
        f"--override {override}: no value; write null for none, '' for empty text"
    ]
    for digits, shown in ((60, 60 * "1"), (61, 59 * "1" + "…")):
        assert problems(write(f"{RESNET}title: {digits * '1'}"))[0].startswith(
            f"line 2: title = {shown}: expected text"
        )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; expected a mapping of keys to values"),
        (b"# only a comment\n", "is empty; expected a mapping of keys to values"),
        (b"[1, 2]", "holds [1, 2]; expected a mapping of keys to values"),
        (b"just text", 'holds "just text"; expected a mapping of keys to values'),
        (b"a: 1\nb: [1, 2\nc: 3\n", "is not YAML: line 3, column 2: "),
        (b"a: b: c", "is not YAML: line 1, column 5: mapping values are not allowed here"),
        (b"a: \xff\xff", "is not YAML: "),
        (b"a: 1\n---\na: 2\n", "is not YAML: line 2, column 1: "),
        (b"a: *nowhere", "is not YAML: line 1, column 4: found undefined alias 'nowhere'"),
        (b"a: 1\n? [1, 2]\n: 3", "is not YAML: line 2, column 3: a key must be text, not a list or a mapping"),
        (b"a: \x07", "is not YAML: unacceptable character #x0007: special characters are not allowed"),
        (b"a: &self [*self]", "is not YAML: nested more than 100 levels deep, or an alias inside what it repeats"),
        (b"a: " + 2000 * b"[", "is not YAML: nested more than 100 levels deep, or an alias inside what it repeats"),
        (ALIASES_OF_ALIASES, "is not YAML: more than 100,000 values or 4,194,304 characters, aliases counted"),
        (LONG_ALIASES, "is not YAML: more than 100,000 values or 4,194,304 characters, aliases counted"),
        (b"a: " + 101 * b"[" + 101 * b"]", "is not YAML: nested more than 100 levels deep"),
        (b"a: " + 100 * b"{a: " + b"1" + 100 * b"}", "is not YAML: nested more than 100 levels deep"),
        (b"a: " + (1 << 22) * b"x", "is not YAML: more than 4,194,304 characters"),
    ],
)
def test_files_that_hold_no_mapping(write, content, problem):
    path = write(content)
    assert problems(path)[0].startswith(problem)
    with pytest.raises(ConfigError) as caught:
        load(Train, path)
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(caught.value)


def test_a_list_may_be_deep_up_to_the_limit(write):
    with pytest.raises(ConfigError, match=r"line 2: title = \[\[\["):
        load(Train, write(RESNET + "title: " + 100 * "[" + 100 * "]"))


def test_merges_of_merges_are_read_at_once():
    """Nine times the keys of the level below, ten levels deep, of which 11 differ."""
    merges = [f"m{n}: &m{n} {{<<: [{', '.join(9 * [f'*m{n - 1}'])}], k{n}: {{name: k{n}}}}}" for n in range(1, 11)]
    document = Document("\n".join(["m0: &m0 {k0: {name: k0}}", *merges, "renames: {<<: *m10, k3: {name: own}}"]))
    assert document.problems == []
    assert document.data["renames"] == {f"k{n}": {"name": "own" if n == 3 else f"k{n}"} for n in range(11)}


@pytest.mark.parametrize("case", ["deep_nesting/deep.yaml", "yaml_alias_bomb/bomb.yaml"])
def test_the_shared_bombs_are_one_line(shared, case):
    with pytest.raises(ConfigError, match=r"is not YAML: (nested )?more than 100") as caught:
        load(Train, shared(f"cases/{case}"))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    assert problems(tmp_path / "nowhere.yaml") == ["no such file"]
    assert problems(tmp_path) == ["cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("title: !!python/object/apply:os.mkdir [PWNED]", "the tag !!python/object/apply:os.mkdir is refused"),
        ("title: !secret x", "the tag !secret is refused"),
        ("title: !!set {a}", "the tag !!set is refused"),
        ("title: !!int abc", "'abc' is no int"),
    ],
)
def test_only_plain_data_is_built(write, tmp_path, monkeypatch, line, reason):
    monkeypatch.chdir(tmp_path)
    first = problems(write(RESNET + line))[0]
    assert first.startswith("line 2: title")
    assert reason in first
    assert not (tmp_path / "PWNED").exists()


def test_translate_brings_an_older_format_up_to_date(write):
    def translate(old: dict) -> dict:
        if "base_model" not in old:
            raise ValueError("base_model: missing, and without it this is no config of a release")
        return {"backbone": {"kind": old.pop("base_model")}, **old}

    path = write("base_model: resnet\nseeds: [5]\nlr: 1")
    assert problems(path, ["backbone.depth=19"], translate=translate) == [
        "--override backbone.depth=19: backbone.depth = 19: expected 18 or 50",
        "lr = 1: unknown key 'lr'; did you mean 'optimizer.lr'?",
    ]
    path = write("base_model: resnet\nseeds: [5]")
    settings = load(Train, path, ["backbone.depth=18"], translate)
    assert (settings.backbone.depth, settings.seeds) == (18, [5])
    assert problems(write("seeds: [5]\nseeds: [6]"), translate=translate) == [
        "line 2: seeds: given twice, first on line 1",
        "base_model: missing, and without it this is no config of a release",
    ]


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
tricky = st.sampled_from(
    ["no", "1e-5", "-.5", "null", "~", "2024-01-01", "0x1", "0o17", "017", "<<", "=", "a: b", " x", "!x", "1:30", ""]
)


@hypothesis_settings(deadline=None)
@given(
    title=text | tricky,
    names=st.lists(text | tricky, max_size=3),
    books=st.dictionaries(text | tricky, text.map(lambda name: Path(f"books/{name}".replace("\0", ""))), max_size=3),
    lr=st.floats(min_value=1e-30, max_value=1e30),
    crop=st.integers() | st.tuples(st.integers(), st.integers()),
    schedule=st.none() | st.just(Schedule(epochs=2)),
)
def test_what_is_dumped_loads_equal(tmp_path_factory, title, names, books, lr, crop, schedule):
    settings = Train(
        backbone=ViT(kind="vit", name="b16"),
        optimizer=Optimizer(lr=lr),
        schedule=schedule,
        benchmarks=[Benchmark(name=name) for name in names],
        books=books,
        crop=crop,
        title=title,
    )
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    dump(settings, path)
    assert load(Train, path) == settings


def test_dump_writes_defaults_for_any_reader_of_yaml(tmp_path):
    path = tmp_path / "run" / "config.yaml"
    dump(load(Train, None, ["backbone.kind=resnet", "optimizer.lr=1e-5", "precision=no"]), path)
    content = yaml.safe_load(path.read_text())
    assert content["backbone"] == {"kind": "resnet", "depth": 50}
    assert content["optimizer"] == {"lr": 1e-5, "weight_decay": 0.02, "betas": [0.9, 0.999]}
    assert content["schedule"] is None
    assert content["precision"] == "no"


def test_a_dump_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    settings = load(Train, None, ["backbone.kind=resnet"])
    dump(settings, path)
    before = path.read_text()

    def fail(partial, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        dump(load(Train, None, ["backbone.kind=resnet", "title=new"]), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
