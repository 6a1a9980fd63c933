import pytest

from mavl.prepare.radgraph import labels


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Statistics without their picture, which takes most of the time; a process of its own draws it."""
    monkeypatch.setattr(labels, "draw_picture", lambda *_: None)
