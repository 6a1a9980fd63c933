"""Where the results of an evaluation go."""

from mavl.evaluate.subject import benchmark_folder


def test_every_benchmark_has_a_folder_of_its_own():
    assert [benchmark_folder(name) for name in ("rsna", "nih_sample", "a-b", "a.b")] == [
        "rsna",
        "nih_sample",
        "a-b",
        "a.b",
    ]
    names = ["a-b", "a/b", "a b", "-a-b", "a--b", "a:b", "..", "/", "../a-b"]
    folders = [benchmark_folder(name) for name in names]
    assert len({*folders}) == len(names)
    assert not [folder for folder in folders if "/" in folder or folder.startswith(".")]
