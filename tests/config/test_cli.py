"""What the scripts share: flags that become overrides of the right type, and errors in one line."""

import argparse
import importlib
import io
import sys
from pathlib import Path

import pytest

from mavl.config.cli import FINETUNING_FLAGS, complain_in_one_line, override_flags, positive
from mavl.config.evaluation import GroundingSettings, SensitivitySettings, ZeroShotSettings
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import ConfigError, load
from mavl.config.settings import PretrainSettings, Settings
from mavl.data.images.grey import ImageError
from mavl.files import FileError
from mavl.text.embeddings import TextEmbeddings
from mavl.train.log import NonFiniteLossError
from mavl.train.run_folder import flat

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {
    "root": ("data.root", str, "folder of the images"),
    "bs": ("data.batch_size", int, "images a step"),
    "lr": ("optimizer.lr", float, "learning rate"),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    override_flags(made, FLAGS)
    return made


def settings(*arguments: str) -> PretrainSettings:
    return load(PretrainSettings, None, ["data.source=mimic", *parser().parse_args(arguments).overrides])


@pytest.fixture
def script(monkeypatch):
    """script("train_mavl") -> the script as a module."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module


TEXTS = (
    *("2024", "007", "1e-5", "no", "true", "null", "~", "", " a b ", "a: b", "[x]", "{x}", "#x", "a=b", "a,b", "*x"),
    *("C:\\data\\new", "it's", 'a "b"', "tab\there", "two\nlines", "größe", "肺", "🫁", "!!int 3", "-x", "@", "%d"),
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_the_text_that_was_typed(text):
    assert settings(f"--root={text}").data.root == text


def test_numbers_become_numbers():
    chosen = settings("--bs", "12", "--lr", "1e-5")
    assert (chosen.data.batch_size, chosen.optimizer.lr) == (12, 1e-5)


def test_the_last_one_given_counts():
    assert settings("--bs", "4", "--override", "data.batch_size=8").data.batch_size == 8
    assert settings("--override", "data.batch_size=8", "--bs", "4").data.batch_size == 4
    assert settings("--override", "findings=[edema, mass]", "--override", "train.seed=3").findings == ("edema", "mass")


def test_what_is_not_given_comes_from_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {source: mimic, batch_size: 7, root: here}\n")
    chosen = load(PretrainSettings, tmp_path / "c.yaml", parser().parse_args(["--root", "there"]).overrides)
    assert (chosen.data.batch_size, chosen.data.root) == (7, "there")


def test_a_number_that_is_none_is_refused_with_the_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["--bs", "twelve"])
    assert caught.value.code == 2
    assert "argument --bs: invalid int value: 'twelve'" in capsys.readouterr().err


def test_one_parser_reads_several_lines():
    both = parser()
    first = both.parse_args(["--bs", "4"]).overrides
    assert both.parse_args(["--root", "x"]).overrides == ['data.root="x"']
    assert first == ["data.batch_size=4"]


def test_help_names_the_key_of_a_flag():
    assert "folder of the images (data.root)" in " ".join(parser().format_help().split())


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("train_mavl", PretrainSettings()),
        ("zero_shot_classify", ZeroShotSettings(benchmark="b.yaml", sensitivity=SensitivitySettings())),
        ("zero_shot_ground", GroundingSettings(benchmark="b.yaml")),
        ("finetune_cls", FinetuneClsSettings(data={"benchmark": "b.yaml"})),
        ("finetune_seg", FinetuneSegSettings(data={"folder": {"images": "i", "masks": "m"}})),
    ],
)
def test_the_flags_of_a_script_are_short_for_keys_that_there_are(script, name, defaults: Settings):
    flags = script(name).FLAGS if name != "finetune_cls" else FINETUNING_FLAGS
    assert {key for key, _, _ in flags.values()} <= flat(defaults.model_dump()).keys()


def test_a_flag_of_a_list_takes_several_values():
    several = argparse.ArgumentParser()
    override_flags(several, FINETUNING_FLAGS)
    assert several.parse_args(["--seeds", "0", "2", "--bs", "4"]).overrides == ["seeds=[0, 2]", "data.batch_size=4"]
    with pytest.raises(SystemExit):
        several.parse_args(["--seeds", "0", "one"])


def complaint(monkeypatch, capsys, error: Exception, traceback: str | None = None) -> str:
    """What a script prints whose main raises the error; its exit code must be 2."""
    monkeypatch.delenv("MAVL_TRACEBACK", raising=False)
    if traceback is not None:
        monkeypatch.setenv("MAVL_TRACEBACK", traceback)

    @complain_in_one_line
    def main():
        raise error

    assert main() == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def unknown_finding() -> Exception:
    """What text embeddings raises."""
    from torch import zeros

    embeddings = TextEmbeddings(("edema",), ("description",), zeros(1, 1, 2), zeros(51, 2), {})
    with pytest.raises(KeyError) as caught:
        embeddings.index(["edma"])
    return caught.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("c.yaml", ["line 3: unknown key 'rot'"]), "c.yaml: line 3: unknown key 'rot'"),
        (ImageError("a.png: no such file"), "a.png: no such file"),
        (NonFiniteLossError("step 7: loss is nan"), "step 7: loss is nan"),
        (unknown_finding(), "unknown finding 'edma'; did you mean 'edema'?"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_packages_errors_are_their_message_and_exit_code_2(monkeypatch, capsys, error, line):
    assert complaint(monkeypatch, capsys, error) == f"error: {line}\n"


def test_the_mistakes_of_a_config_are_printed_by_one_process(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert complaint(monkeypatch, capsys, ConfigError("c.yaml", ["a", "b"])) == ""
    assert complaint(monkeypatch, capsys, FileError("a.csv: cut")) == "error: a.csv: cut\n"
    monkeypatch.setenv("RANK", "0")
    assert complaint(monkeypatch, capsys, ConfigError("c.yaml", ["a"])) == "error: c.yaml: a\n"


def test_a_variable_shows_the_traceback(monkeypatch, capsys):
    error = ImageError("a.png: no such file")
    with pytest.raises(ImageError) as caught:
        complaint(monkeypatch, capsys, error, traceback="1")
    assert caught.value is error
    assert complaint(monkeypatch, capsys, error, traceback="0") == "error: a.png: no such file\n"


def test_an_error_of_the_system_is_one_line_that_names_the_file(monkeypatch, capsys, tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "none" / "x.json").write_text("")
    assert (
        complaint(monkeypatch, capsys, caught.value)
        == f"error: {tmp_path / 'none' / 'x.json'}: No such file or directory\n"
    )
    assert complaint(monkeypatch, capsys, OSError(28, "No space left on device")) == "error: No space left on device\n"


@pytest.mark.parametrize(
    ("hint", "line"), [((), "interrupted\n"), (("--resume goes on",), "interrupted; --resume goes on\n")]
)
def test_an_interrupt_is_one_line_and_exit_code_130(monkeypatch, capsys, hint, line):
    @complain_in_one_line
    def main():
        raise KeyboardInterrupt(*hint)

    monkeypatch.delenv("MAVL_TRACEBACK", raising=False)
    assert main() == 130
    assert capsys.readouterr().err == line
    monkeypatch.setenv("MAVL_TRACEBACK", "1")
    with pytest.raises(KeyboardInterrupt):
        main()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("store", "interrupted; the same command goes on where it was\n"),
        ("radgraph", "interrupted\n"),
        ("doctor", "interrupted\n"),
    ],
)
def test_the_commands_that_go_on_after_an_interrupt_say_so(script, monkeypatch, capsys, command, line):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"mavl.prepare.{command}.run", interrupted)
    words = ["--config", "c.yaml"] if command == "doctor" else ["--out", "out"]
    monkeypatch.setattr("sys.argv", ["prepare_data.py", command, *words])
    assert script("prepare_data").main() == 130
    assert capsys.readouterr().err == line


def test_a_positive_number_is_one():
    assert positive("3") == 3
    for text in ("0", "-3", "1.5", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a whole number of at least 1"):
            positive(text)


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, RuntimeError, ZeroDivisionError])
def test_errors_of_others_keep_their_traceback(monkeypatch, capsys, kind):
    with pytest.raises(kind, match="a bug"):
        complaint(monkeypatch, capsys, kind("a bug"))
    of_a_neighbour = type("Error", (ValueError,), {"__module__": "mavlib.errors"})
    with pytest.raises(of_a_neighbour):
        complaint(monkeypatch, capsys, of_a_neighbour())


def test_any_file_name_can_be_printed(monkeypatch):
    main = complain_in_one_line(lambda: print("q\udcff.png"))
    content = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(content, encoding="utf-8", errors="strict"))
    assert main() == 0
    sys.stdout.flush()
    assert content.getvalue() == b"q\\udcff.png\n"
    monkeypatch.setattr("sys.stdout", captured := io.StringIO())  # which cannot be reconfigured
    assert main() == 0
    assert captured.getvalue() == "q\udcff.png\n"


def test_a_script_that_ends_well_exits_with_0_and_keeps_its_name(capsys):
    def main() -> None:
        """Do it."""
        print("done")

    wrapped = complain_in_one_line(main)
    assert (wrapped(), wrapped.__name__, wrapped.__doc__) == (0, "main", "Do it.")
    assert capsys.readouterr().out == "done\n"


@pytest.mark.parametrize("name", ["train_mavl", "zero_shot_classify"])
def test_a_script_reports_every_mistake_of_its_config_at_once(script, name, tmp_path, monkeypatch, capsys):
    (tmp_path / "c.yaml").write_text("benchmark: b.yaml\noutput_dri: x\n" if "zero" in name else "output_dri: x\n")
    arguments = ["--config", str(tmp_path / "c.yaml"), "--override", "seeed=1", "--num_workers", "-1"]
    monkeypatch.setattr("sys.argv", [name, *arguments])
    assert script(name).main() == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: {tmp_path / 'c.yaml'}: 3 problems"
    assert any("unknown key 'output_dri'; did you mean 'output_dir'?" in line for line in lines)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("findings=[edema, '']", "'' is no name: 1 to 100 printable characters"),
        ("findings=[edema, edema]", "findings named twice: edema"),
        ("anatomies=[heart_size, other]", "'unspecified' is missing, the place of findings without a stated one"),
        ("anatomies=[unspecified, other, other]", "anatomies named twice: other"),
        ("anatomies=[unspecified]", "at least 2"),
    ],
)
def test_findings_and_anatomies_are_names_each_once(override, complaint):
    with pytest.raises(ConfigError) as caught:
        settings("--override", override)
    assert complaint in str(caught.value)


def test_findings_of_own_books_are_no_error_of_the_config():
    assert settings("--override", "findings=[silicosis]").findings == ("silicosis",)
