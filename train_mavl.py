"""Pre-train MAVL (or MedKLIP) on images with report labels.

    accelerate launch train_mavl.py --root <MIMIC-CXR-JPG> --config configs/MAVL_resnet.yaml --bs 124 --num_workers 8
    accelerate launch --multi_gpu --num_processes=4 train_mavl.py --config configs/MAVL_resnet.yaml --root …
    python train_mavl.py --config configs/demo.yaml             # phantoms, on a CPU, some minutes

The config may also be one of the released format. Writes a run folder (`--output_dir`): `best/` and `last/` model
folders, `checkpoints/` for `--resume`, `log.jsonl`, `config.yaml`, `run.json` (versions), `left_out.json` (bad images).
`--override key=value` sets any key of the config.
"""

import sys

from mavl.config.cli import complain_in_one_line, read_settings
from mavl.config.released import translate_config
from mavl.config.settings import PretrainSettings

FLAGS = {
    "root": ("data.root", str, "folder of the images"),
    "bs": ("data.batch_size", int, "images a step and process"),
    "num_workers": ("data.workers", int, "loader processes for each training process"),
    "output_dir": ("output_dir", str, "run folder"),
    "checkpoint": ("init.checkpoint", str, "start from this model folder or released .pth"),
}


@complain_in_one_line
def main() -> None:
    settings, resume = read_settings(PretrainSettings, __doc__, FLAGS, resumable=True, translate=translate_config)
    from accelerate import PartialState  # torch and transformers take seconds; a bad config should not

    from mavl.train.pretrain import run

    progress = run(settings, resume=resume)
    best = f"{settings.train.monitor} {progress.best:.4f} at step {progress.best_step}"
    PartialState().print(f"best {best}: {settings.output_dir}/best")


if __name__ == "__main__":
    sys.exit(main())
