"""The tables of docs/scale.md, computed by hand."""

from benchmarks.scale import Rates, tables

RATES = Rates(
    sizes={"originals": 1_500_000, "raw": 300_000},
    times={"originals": 25.0, "raw": 1.0},
    making=60.0,
    header={"originals": 1.6, "raw": 0.16},
    starts={
        377_110: {"first start": {"hashes": 0.54, "memory": 3.6e6}, "worker": {"memory": 1e5}},
        10_000_000: {"first start": {"hashes": 1234.5, "memory": 4.2e9}, "worker": {"memory": 0}},
    },
    parameters=31_000_000,
    gpu=248.0,
)


def rows(gpus: tuple[int, int]) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in "\n".join(tables(RATES, gpus)).splitlines() if " | " in line]
    return {line[0]: line[1:] for line in lines}


def test_what_images_take():
    table = rows((4, 32))
    assert table["disk: originals"] == ["566 GB", "15 TB"]  # 1.5 MB each
    assert table["disk: raw"] == ["113 GB", "3 TB"]
    assert table["disk: labels"] == ["871 MB", "23 GB"]  # 227,827 studies × 51 × 75 bytes; 0.604 studies an image
    assert table["time to check all headers: originals, 16 cores"] == ["38 s", "17 min"]  # images × 0.0016 s / 16
    assert table["time to make the store, 16 cores"] == ["24 min", "10 h"]  # images × 0.06 s / 16


def test_what_gpus_need():
    table = rows((4, 32))
    assert table["images a second"] == ["992", "7,936"]
    assert table["cores to feed them: originals"] == ["24.8", "198.4"]
    assert table["read a second: originals"] == ["1.5 GB", "12 GB"]
    # two steps a second, each with 124 MB of gradients; of n GPUs each sends 2 (n - 1) / n of them
    assert table["gradients a GPU sends a second"] == ["372 MB", "480 MB"]
    assert rows((1, 32))["gradients a GPU sends a second"][0] == "0 B"
    assert table["an epoch"] == ["6 min", "21 min"]
    assert table["60 epochs"] == ["6 h", "21 h"]


def test_what_a_start_takes():
    table = rows((4, 32))
    assert table["first start: hashes"] == ["0.5 s", "1,234.5 s"]
    assert table["first start: memory"] == ["4 MB", "4,200 MB"]
    assert table["worker: memory"] == ["0 MB", "0 MB"]
