"""Names of the files of a label store, which `prepare_data.py radgraph` and `reports` write and training reads."""

SPLITS = ("train", "validate", "test")

LABELS = "landmark_observation_adj_mtx.npy"
"""int8 [studies, anatomies, findings], as in the release."""

MANIFESTS = {split: f"rad_graph_metric_{split}.json" for split in SPLITS}
"""Image -> row of its study in the labels, as in the release."""

VOCABULARY = "vocabulary.json"
"""Names of the findings and the anatomies; without it they are the 75 × 51 of the release."""

SENTENCES = "sentences.jsonl"
"""A line for each row of the labels: the JSON list of the sentences of its report."""
