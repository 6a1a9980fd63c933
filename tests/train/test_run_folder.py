"""A run folder goes on with its own run only; checkpoints are whole or absent; a record says what made a result."""

import json
import math
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from mavl import provenance
from mavl.checkpoint import CheckpointError
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.files import OutsideError
from mavl.train import pretrain
from mavl.train.checkpoints import ResumeError
from mavl.train.run_folder import MAY_CHANGE, Progress, check_data, describe_launch, flat, open_run_folder, resumes
from tests.support.small_runs import forget_accelerator

TORCH = torch.__version__.partition("+")[0]
OF_FINE_TUNING = {"resamples": 5, "html": False, "gallery": 2}
BOOKS = {"books/descriptions.json": "d1", "books/aspects.json": "a1"}
OTHER = {  # of each key that may change, another value
    "output_dir": "elsewhere",
    "data.root": "/moved/images",
    "data.workers": 3,
    "data.cache": "elsewhere",
    "text.cache": None,
    "train.log_every": 7,
    "train.checkpoint_every": 11,
    "train.keep": 5,
    "train.compile": True,
    "train.activation_checkpointing": True,
    "train.backbone_checkpointing": True,
    "train.trackers": ["tensorboard"],
}


def settings(**changed) -> PretrainSettings:
    """Numbers and texts that YAML 1.1 and 1.2 read differently, and {dotted key: value} on top."""
    data = {"source": "mimic", "root": "2024-01-01"}
    nested = {"optimizer": {"lr": 1e-5, "weight_decay": 1.0}, "data": data, "output_dir": "no"}
    for dotted, value in changed.items():
        *sections, key = dotted.split(".")
        section = nested
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return PretrainSettings.model_validate(nested)


def open_again(folder: Path, books: dict = BOOKS, resume: bool = True, **changed) -> None:
    open_run_folder(folder, settings(**changed), books, resume)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of a run that has learnt something."""
    open_run_folder(tmp_path / "run", settings(), BOOKS, resume=False)
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1}\n')
    return tmp_path / "run"


class TestRunFolder:
    def test_it_holds_the_whole_config_the_books_and_the_versions(self, folder):
        assert load(PretrainSettings, folder / "config.yaml") == settings()
        about = json.loads((folder / "run.json").read_text())
        assert about["books"] == BOOKS
        assert about["provenance"]["packages"]["torch"] == TORCH
        assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "log.jsonl", "run.json"]

    def test_a_second_start_is_refused_unless_it_resumes(self, folder):
        with pytest.raises(ResumeError, match=r"run holds a run already; --resume goes on with it, or choose another"):
            open_again(folder, resume=False)
        open_again(folder)

    def test_a_run_of_a_former_version_goes_on_with_the_same_tokens(self, folder):
        """Before `text.pooling` the tokens were those of the released training, whatever an encoder declared."""
        path, former = folder / "config.yaml", {"sep": False, "max_length": 128, "lower_case": True}
        config = yaml.safe_load(path.read_text())
        text = {key: value for key, value in config["text"].items() if key in ("encoder", "seed", "cache")}
        text |= {key: config["text"][key] for key in ("descriptions", "aspects")}
        path.write_text(yaml.safe_dump(config | {"text": text | former}))
        open_again(folder)
        path.write_text(yaml.safe_dump(config | {"text": text | former | {"max_length": 64}}))
        with pytest.raises(ResumeError, match=r"text\.max_length: 64 then, 'auto' now"):
            open_again(folder)
        path.write_text(yaml.safe_dump(config | {"text": text | former}))
        with pytest.raises(ResumeError, match=r"text\.scaling: None then, 'whiten' now"):
            open_again(folder, **{"text.scaling": "whiten"})

    def test_another_precision_of_the_launcher_is_another_run(self, folder):
        open_run_folder(folder, settings(), BOOKS, resume=True, launch={"mixed_precision": "no"})
        with pytest.raises(ResumeError) as caught:
            open_run_folder(folder, settings(), BOOKS, resume=True, launch={"mixed_precision": "bf16"})
        assert "mixed_precision no, this launch has bf16; resume with accelerate launch --mixed_precision=no" in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
        assert json.loads((folder / "run.json").read_text())["mixed_precision"] == "no"

    def test_another_gpu_or_version_is_a_note(self, folder, capsys):
        launch = {"mixed_precision": "bf16", "processes": 2, "gpu": "A100", "cuda": "12.4", "nccl": "2.20.5"}
        open_run_folder(folder, settings(), BOOKS, resume=True, launch=launch)
        assert launch.items() <= json.loads((folder / "run.json").read_text()).items()
        capsys.readouterr()
        open_run_folder(folder, settings(), BOOKS, resume=True, launch=launch)
        assert capsys.readouterr().out == ""
        about = json.loads((folder / "run.json").read_text())
        about["provenance"]["packages"]["torch"] = "2.0.0"
        (folder / "run.json").write_text(json.dumps(about))
        open_run_folder(folder, settings(), BOOKS, resume=True, launch=launch | {"gpu": "H100", "nccl": "2.21.5"})
        changed = f"gpu A100 then, H100 now; nccl 2.20.5 then, 2.21.5 now; torch 2.0.0 then, {TORCH} now"
        assert f"{folder}: {changed}: the weights will not be bit-equal" in capsys.readouterr().out
        assert json.loads((folder / "run.json").read_text())["gpu"] == "H100"

    def test_another_number_of_processes_is_refused_and_the_record_stays(self, folder):
        launch = {"mixed_precision": "no", "processes": 2}
        open_run_folder(folder, settings(), BOOKS, resume=True, launch=launch)
        before = (folder / "run.json").read_bytes()
        with pytest.raises(ResumeError, match=r"made with processes 2, this launch has 1; .* --num_processes=2"):
            open_run_folder(folder, settings(), BOOKS, resume=True, launch=launch | {"processes": 1})
        assert (folder / "run.json").read_bytes() == before

    def test_a_run_goes_on_by_itself_under_the_launcher_that_began_it_alone(self, folder, monkeypatch):
        accelerator = Accelerator(cpu=True)
        open_run_folder(folder, settings(), BOOKS, resume=True, launch=describe_launch(accelerator))
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        assert not resumes(accelerator, False, [folder])  # a run of no launcher
        open_run_folder(folder, settings(), BOOKS, resume=True, launch=describe_launch(accelerator))
        assert resumes(accelerator, False, [folder])
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert not resumes(accelerator, False, [folder])
        assert resumes(accelerator, True, [folder])
        forget_accelerator()

    def test_a_launch_on_a_cpu_has_neither_gpu_nor_nccl(self):
        launch = describe_launch(Accelerator(cpu=True))
        forget_accelerator()
        nothing = {"launcher": None, "gpu": None, "cuda": None, "nccl": None}
        assert launch == {"mixed_precision": "no", "processes": 1, **nothing}

    def test_other_data_are_another_run(self, folder, capsys):
        """A record without their hashes is one of an older version, and goes on with a note."""
        check_data(folder, {"list train": "1", "images of train": "2"})
        assert "holds no hashes of the data" in capsys.readouterr().out
        check_data(folder, {"list train": "1", "images of train": "2"})
        assert capsys.readouterr().out == ""
        with pytest.raises(ResumeError, match=r"(?s)^[^\n]*another run:\n  data: list train has changed\nA resumed"):
            check_data(folder, {"list train": "3", "images of train": "2"})
        with pytest.raises(ResumeError, match="data: images of train has changed"):
            check_data(folder, {"list train": "1"})
        assert capsys.readouterr().out == ""
        check_data(folder, {"list train": "1", "images of train": "2", "size of train's image files": "3"})
        assert "no hash of size of train's image files:" in capsys.readouterr().out
        open_again(folder)
        assert json.loads((folder / "run.json").read_text())["data"]["size of train's image files"] == "3"

    @pytest.mark.parametrize("name", ["config.yaml", "run.json"])
    @pytest.mark.parametrize("content", ["", "{", "\0\0\0", "- 1\n", "7"])
    def test_a_damaged_file_is_an_error_of_one_line(self, folder, name, content):
        (folder / name).write_text(content)
        with pytest.raises(ResumeError, match=rf"^\S+{name}: empty or damaged; copy it back, or .*--checkpoint$"):
            open_again(folder)

    def test_a_key_that_an_older_version_lacks_may_have_its_default(self, folder):
        written = yaml.safe_load((folder / "config.yaml").read_text())
        del written["train"]["patience"]
        (folder / "config.yaml").write_text(yaml.safe_dump(written))
        with pytest.raises(ResumeError, match=r"train\.patience: None then, 3 now"):
            open_again(folder, **{"train.patience": 3})
        open_again(folder)

    @pytest.mark.parametrize("resume", [False, True])
    def test_a_start_that_failed_leaves_its_folder_to_the_next(self, folder, resume):
        (folder / "log.jsonl").write_text("")
        (folder / "text_encoder").mkdir()
        open_again(folder, resume=resume, **{"optimizer.lr": 1e-3, "text.seed": 4})
        assert load(PretrainSettings, folder / "config.yaml").text.seed == 4
        assert not (folder / "text_encoder").exists()
        (folder / "checkpoints" / "step_00000003").mkdir(parents=True)
        with pytest.raises(ResumeError, match="holds a run already"):
            open_again(folder, resume=False)

    def test_pre_training_from_nothing_leaves_no_folder(self, tmp_path, monkeypatch):
        changed = {"init.checkpoint": "nope.pth", "output_dir": str(tmp_path / "run"), "optimizer.lr": 1e-3}
        with pytest.raises(CheckpointError, match=r"init\.checkpoint: nope\.pth: no such file; name another"):
            pretrain.run(settings(**changed))
        assert not (tmp_path / "run").exists()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    def test_resuming_where_nothing_is_begins(self, tmp_path):
        open_again(tmp_path / "new")
        assert load(PretrainSettings, tmp_path / "new" / "config.yaml") == settings()

    @pytest.mark.parametrize("name", ["checkpoints", "last", "best", "text_encoder"])
    def test_a_link_in_place_of_what_a_run_writes_is_refused(self, folder, tmp_path, name):
        (tmp_path / "other").mkdir()
        (folder / name).symlink_to(tmp_path / "other")
        with pytest.raises(OutsideError, match=rf"run/{name} is a link to \S+other: remove it"):
            open_again(folder)

    def test_a_config_with_a_repeated_key_is_damaged(self, folder):
        with (folder / "config.yaml").open("a") as file:
            file.write("output_dir: elsewhere\n")
        with pytest.raises(ResumeError, match=r"config\.yaml: empty or damaged"):
            open_again(folder)

    def test_every_key_that_may_change_may(self, folder):
        assert OTHER.keys() | OF_FINE_TUNING.keys() == MAY_CHANGE
        for key, value in OTHER.items():
            assert flat(settings().model_dump(mode="json"))[key] != value
            open_again(folder, **{key: value})
            assert flat(load(PretrainSettings, folder / "config.yaml").model_dump(mode="json"))[key] == value

    def test_what_a_result_looks_like_may_change(self, tmp_path):
        for schema in (FinetuneClsSettings, FinetuneSegSettings):
            folder = tmp_path / schema.__name__
            open_run_folder(folder, schema(data={"benchmark": "x"}), {}, resume=False)
            (folder / "log.jsonl").write_text('{"step": 1}\n')
            changed = {key: value for key, value in OF_FINE_TUNING.items() if key in schema.model_fields}
            open_run_folder(folder, schema(data={"benchmark": "x"}, **changed), {}, resume=True)
            kept = load(schema, folder / "config.yaml").model_dump()
            assert changed.items() <= kept.items()
            assert changed

    def test_no_other_key_may(self, folder):
        """Each in turn is made another one in the folder's config."""
        written = yaml.safe_load((folder / "config.yaml").read_text())
        fixed = flat(written).keys() - MAY_CHANGE
        assert len(fixed) > 40
        for dotted in fixed:
            changed = json.loads(json.dumps(written))
            *sections, key = dotted.split(".")
            section = changed
            for name in sections:
                section = section[name]
            section[key] = "another"
            (folder / "config.yaml").write_text(yaml.safe_dump(changed))
            with pytest.raises(ResumeError, match=rf"(?m)^  {dotted}: 'another' then, ") as caught:
                open_again(folder)
            assert str(caught.value).count(" then, ") == 1

    def test_a_key_of_another_version_counts_too(self, folder):
        with (folder / "config.yaml").open("a") as file:
            file.write("former: 3\n")
        with pytest.raises(ResumeError, match="former: 3 then, None now"):
            open_again(folder)

    def test_all_changes_are_told_at_once_and_the_folder_is_left_alone(self, folder):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        changed = {"optimizer.lr": 1e-3, "findings": ["edema"], "data.workers": 1}
        with pytest.raises(ResumeError) as caught:
            open_again(folder, books=BOOKS | {"books/aspects.json": "a2"}, **changed)
        first, *lines, last = str(caught.value).splitlines()
        assert first == f"{folder} holds another run:"
        assert lines[0].endswith("now") and lines[0].startswith("  findings: ['normal', 'clear', ")  # noqa: PT018
        assert lines[1:] == ["  optimizer.lr: 1e-05 then, 0.001 now", "  books: books/aspects.json has changed"]
        assert "start a new one from its weights with --checkpoint" in last
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    def test_another_kind_of_data_is_another_run(self, folder):
        phantom = settings().model_dump(mode="json") | {"data": {"source": "phantom"}}
        with pytest.raises(ResumeError, match=r"data\.source: 'mimic' then, 'phantom' now"):
            open_run_folder(folder, PretrainSettings.model_validate(phantom), BOOKS, resume=True)

    def test_a_run_killed_before_its_record_was_written_goes_on(self, folder):
        (folder / "run.json").unlink()
        open_again(folder)
        assert json.loads((folder / "run.json").read_text())["books"] == BOOKS


def test_flat_joins_the_keys():
    assert flat({"a": {"b": 1, "c": {"d": [2, {"e": 3}]}}, "f": None}) == {"a.b": 1, "a.c.d": [2, {"e": 3}], "f": None}


class TestProgress:
    @pytest.mark.parametrize(
        ("larger_is_better", "values", "better"),
        [
            (False, [0.5, 0.6, 0.5, 0.4], [True, False, False, True]),
            (True, [0.5, 0.4, 0.5, 0.6], [True, False, False, True]),
            (False, [math.nan, 0.5, math.nan, 0.4], [False, True, False, True]),
            (True, [math.nan, 0.5, math.nan, 0.6], [False, True, False, True]),
            (True, [math.inf, 0.5, -math.inf, 0.6], [False, True, False, True]),
            (False, [-math.inf, 0.0, math.inf, -0.1], [False, True, False, True]),
        ],
    )
    def test_the_best_so_far(self, larger_is_better, values, better):
        progress = Progress(processes=1)
        for step, (value, expected) in enumerate(zip(values, better, strict=True), start=1):
            progress.step = step
            assert progress.improve(value, larger_is_better) is expected
            if expected:
                assert (progress.best, progress.best_step) == (value, step)
        assert progress.best_step == 4

    def test_it_comes_back_as_it_was(self):
        progress = Progress(processes=2, step=30, best=0.25, best_step=20)
        fresh = Progress(processes=2)
        fresh.load_state_dict(progress.state_dict())
        assert fresh == progress

    def test_another_number_of_processes_is_refused(self):
        progress = Progress(processes=2)
        with pytest.raises(ResumeError, match=r"made with 4 processes, this launch has 2; .* --checkpoint"):
            progress.load_state_dict(asdict(Progress(processes=4, step=9)))
        assert progress.step == 0


class TestProvenance:
    @pytest.fixture
    def repository(self, tmp_path, monkeypatch) -> Path:
        """A repository with one commit, whose mavl/provenance.py is where the package seems to be."""
        if shutil.which("git") is None:
            pytest.skip("git is not installed")
        for name in ("HOME", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(name, str(tmp_path))
        file = tmp_path / "repository" / "mavl" / "provenance.py"
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
        self.git(file.parent, "init")
        self.git(file.parent, "add", ".")
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        self.git(file.parent, *author, "commit", "-m", "first")
        self.git(file.parent, *author, "tag", "-a", "v1", "-m", "which is not the revision")
        monkeypatch.setattr(provenance, "__file__", str(file))
        return file.parent

    def git(self, folder: Path, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout

    def test_versions(self, tmp_path, monkeypatch):
        monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
        monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
        record = provenance.provenance()
        assert record["packages"] == {"torch": TORCH, "no-such-package": None}
        assert record["git"] is None
        assert json.loads(json.dumps(record)) == record

    def test_the_revision_with_a_plus_for_changed_files(self, repository):
        head = self.git(repository, "rev-parse", "HEAD")[:12]
        assert provenance.provenance()["git"] == head
        (repository / "provenance.py").write_text("2\n")
        assert provenance.provenance()["git"] == head + "+"

    def test_a_repository_that_the_package_is_merely_installed_in_tells_nothing(self, repository, monkeypatch):
        installed = repository / ".venv" / "mavl" / "provenance.py"
        installed.parent.mkdir(parents=True)
        installed.touch()
        monkeypatch.setattr(provenance, "__file__", str(installed))
        assert provenance.provenance()["git"] is None

    def test_without_git(self, repository, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert provenance.provenance()["git"] is None
