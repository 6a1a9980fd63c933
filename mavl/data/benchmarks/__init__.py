"""Lists of images with labels and masks, described by YAML files."""
