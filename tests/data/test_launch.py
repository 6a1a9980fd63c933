"""Launches that are not supported end with one line, before a model or an image is read."""

import subprocess

import pytest

from mavl.data.launch import LaunchError, refuse_unsupported
from tests.support.processes import ROOT, command, environment
from tests.support.trainings import write_training

REFUSED = {
    "ACCELERATE_USE_FSDP=true": "FSDP (ACCELERATE_USE_FSDP) is not supported; use --multi_gpu",
    "ACCELERATE_USE_DEEPSPEED=true": "DeepSpeed (ACCELERATE_USE_DEEPSPEED) is not supported; use --multi_gpu",
    "ACCELERATE_USE_MEGATRON_LM=1": "Megatron-LM (ACCELERATE_USE_MEGATRON_LM) is not supported; use --multi_gpu",
    "ACCELERATE_USE_PARALLELISM_CONFIG=true": "tensor or context parallelism (ACCELERATE_USE_PARALLELISM_CONFIG)",
    "ACCELERATE_DYNAMO_BACKEND=INDUCTOR": "--dynamo_backend inductor is not supported; use --dynamo_backend no with",
    "ACCELERATE_MIXED_PRECISION=fp8": "--mixed_precision fp8 is not supported; use bf16, fp16 or no",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_launch_that_is_not_supported_is_named_with_the_one_to_use(setting):
    with pytest.raises(LaunchError) as caught:
        refuse_unsupported(dict([setting.split("=")]))
    assert str(caught.value).startswith(f"accelerate: {REFUSED[setting]}")
    assert "\n" not in str(caught.value)


def test_the_usual_launches_are_supported():
    refuse_unsupported({})
    refuse_unsupported(
        {
            "ACCELERATE_USE_FSDP": "false",
            "ACCELERATE_USE_DEEPSPEED": "",
            "ACCELERATE_DYNAMO_BACKEND": "NO",
            "ACCELERATE_MIXED_PRECISION": "bf16",
            "ACCELERATE_USE_CPU": "true",
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_mavl.py", "zero_shot_classify.py"])
def test_of_two_processes_one_prints_one_line(tmp_path, script):
    """The option reaches the script through the launcher; no folder is made."""
    train = ["--config", write_training("pretraining", tmp_path / "config"), "--output_dir", tmp_path / "run"]
    evaluate = ["--config", ROOT / "configs/zero_shot/rsna_mavl.yaml", "--model_path", tmp_path / "absent"]
    line = command(script, *(train if script == "train_mavl.py" else evaluate), processes=2)
    line[line.index("--dynamo_backend=no")] = "--dynamo_backend=inductor"
    finished = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        "error: accelerate: --dynamo_backend inductor is not supported; use --dynamo_backend no with train.compile=true"
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name != "config"] == []
