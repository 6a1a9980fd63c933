"""What every test may use. The one place that knows where the shared goldens and X-rays lie."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the tests already run side by side

SHARED = Path(os.environ.get("MAVL_SHARED") or Path(__file__).resolve().parents[2] / "shared")


@pytest.fixture(scope="session")
def shared():
    """shared("goldens/train.npz") -> its path; the test is skipped, with the reason, where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"shared/{relative} is not beside this checkout")
        return path

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that none runs alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
