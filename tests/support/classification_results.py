"""Labels and scores of seven images, made by hand, and what a result says of its conditions."""

import numpy as np

FINDINGS = ("edema", "hernia")
LABELS = np.array([[1, 0], [0, 0], [1, 0], [0, 0], [-1, 0], [1, 0], [0, 0]], dtype=np.int8)
SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.4], [0.95, 0.5], [0.3, 0.6], [0.2, 0.7]])
ABOUT = {
    "title": "Films <of> a test",
    "split": "test",
    "head": "supervised",
    "protocol": "sound",
    "model": "runs/x",
    "bank": {"encoder": "bert", "tokenisation": {"sep": False}, "books": {"books/a.json": "abcdef0123456789"}},
    "thresholds": "none: no validation split",
    "left_out": {"test": ["bad.png: empty"]},
    "provenance": {"python": "3.11", "platform": "here", "packages": {"torch": "2.8", "timm": None}, "git": None},
}
