"""The arithmetic of benchmarks/scale.py, worked by hand."""

import pytest

from benchmarks.scale import (
    BEGIN,
    END,
    Rates,
    cores_for,
    epoch_hours,
    gradient_bytes,
    making_hours,
    memory,
    storage,
    tables,
    write,
)

RATES = Rates(
    sizes={"originals": 1_500_000, "raw": 300_000},
    times={"originals": 25.0, "raw": 1.0},
    making=60.0,
    listed=500.0,
    parameters=31_000_000,
    gpu=248.0,
)


def test_what_mimic_takes():
    stored = storage(377_110, RATES)
    assert stored["originals"] == 565_665_000_000
    assert stored["raw"] == 113_133_000_000
    assert stored["labels"] == pytest.approx(227_827 * 51 * 75)
    assert memory(377_110, RATES) == 188_555_000
    assert making_hours(377_110, RATES, cores=16) == pytest.approx(377_110 * 0.06 / 16 / 3600)


def test_what_gpus_ask_for():
    assert cores_for(1000, 25.0) == 25
    # two steps a second; of four GPUs each sends 2 · 3/4 of 124 MB at each
    assert gradient_bytes(RATES, 4) == 2 * 1.5 * 124_000_000
    assert gradient_bytes(RATES, 1) == 0
    assert epoch_hours(3600 * 1000, 1000) == 1


def test_the_tables_are_put_between_their_marks(tmp_path):
    text = "\n".join(tables(RATES, (4, 32)))
    assert "| disk: originals | 566 GB | 15 TB |" in text
    assert "| cores to feed them: originals | 24.8 | 198.4 |" in text
    assert "| time to make the store, 16 cores | 24 min | 10 h |" in text
    assert "| 60 epochs | 6 h | 21 h |" in text
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, text)
    assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"
