"""Images with labels and masks, from files to a model's batches."""


class DataError(ValueError):
    """Data that cannot be used as configured; the message names the file, row or setting, and the fix."""
