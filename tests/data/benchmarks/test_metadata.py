"""Attributes of images as subgroups: by their texts, by names, in bands; kept with the images."""

import pytest
import yaml

from mavl.config.loader import ConfigError, load
from mavl.data.benchmarks.benchmark import Benchmark, read_split

ROWS = (
    "image,edema,sex,age,id\na.png,1,F,058Y,1\nb.png,0,M,40,2\na.png,1,F,058Y,1\nc.png,1,,39.5,3\nd.png,0,unknown,x,4\n"
)


def split_of(folder, rows=ROWS, **metadata):
    (folder / "test.csv").write_text(rows)
    content = {"name": "clinic", "title": "A clinic", "findings": ["edema"], "splits": {"test": "test.csv"}}
    content |= {"labels": {"kind": "columns"}, "images": {"column": "image"}, "metadata": metadata}
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(content))
    return read_split(load(Benchmark, folder / "benchmark.yaml"), "test", folder)


def test_texts_names_and_bands_of_each_image_once(tmp_path):
    split = split_of(
        tmp_path,
        sex={"column": "sex", "names": {"f": "women"}},
        age={"column": "age", "bands": [40, 60], "unit": "Y"},
    )
    assert split.metadata == {"sex": ["women", "M", "", ""], "age": ["40 to 60", "40 to 60", "below 40", ""]}
    assert split.without({0}).metadata["sex"] == ["M", "", ""]
    assert split.select(["edema"]).metadata == split.metadata


def test_a_column_that_is_missing_is_named_and_its_subgroups_are_none(tmp_path, capsys):
    split = split_of(tmp_path, sex={"column": "gender"})
    assert split.metadata == {"sex": [""] * 4}
    assert "sex: unknown column 'gender'; known: image, edema, sex" in "".join(capsys.readouterr())


def test_identifiers_are_no_subgroups(tmp_path, capsys):
    rows = "image,edema,id\n" + "".join(f"{i}.png,{i % 2},{i}\n" for i in range(40))
    assert set(split_of(tmp_path, rows, id={"column": "id"}).metadata["id"]) == {""}
    assert "id has 40 different values: give metadata.id bands" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "metadata", [{"column": "age", "bands": [60, 40]}, {"column": "a", "bands": [1], "names": {"x": "y"}}]
)
def test_what_makes_no_subgroups_is_refused(tmp_path, metadata):
    with pytest.raises(ConfigError, match="bands"):
        split_of(tmp_path, age=metadata)
