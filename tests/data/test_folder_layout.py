"""The files of an image folder: splits, classes, and what is left out."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from cifar_models.data.file_paths import FilePaths
from cifar_models.data.folder_layout import ImageFiles, find_images
from cifar_models.data.held_out_files import (
    held_out_by_name,
    refuse_small_classes,
    with_test_split,
)
from cifar_models.errors import RequestError


def write(root: Path, *names: str) -> Path:
    """Create empty files, and return the folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def files_of(class_names: tuple[str, ...], *names: str) -> ImageFiles:
    """Return files of CLASS/NAME."""
    labels = [class_names.index(name.partition("/")[0]) for name in names]
    return ImageFiles(FilePaths.of(names), np.array(labels))


def held_out(*names: str) -> set[str]:
    """Return the held out ones of the files of the class "cat"."""
    files = files_of(("cat",), *(f"cat/{name}" for name in names))
    return {names[index] for index in np.flatnonzero(held_out_by_name(files, ("cat",)))}


def test_about_a_fifth_of_a_class_is_held_out():
    names = [f"{number}.png" for number in range(10_000)]
    # Binomial: a standard deviation of 40.
    assert abs(len(held_out(*names)) - 2000) < 160


def test_the_test_split_of_other_files_does_not_change_when_a_file_is_added():
    """No file may go from train to test: a run was trained on it."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        names = [f"{number}.png" for number in rng.integers(0, 10**6, rng.integers(4, 30))]
        added = [f"a{number}.png" for number in rng.integers(0, 10**6, rng.integers(1, 4))]
        names = list(dict.fromkeys(names))
        before = held_out(*names)
        if len(before) < len(names):  # otherwise the class is refused
            assert held_out(*added, *names) - set(added) <= before


def test_a_class_of_few_images_has_at_least_one_in_test():
    counts = [len(held_out(f"{number}a.png", f"{number}b.png")) for number in range(500)]
    assert set(counts) == {1, 2}
    # All files are held out of 0.2² of 500 classes: 20, with a standard deviation of 4.4.
    assert counts.count(2) < 40


def test_an_accent_counts_as_the_same_character_on_every_system():
    names = [f"\u00e9{number}.png" for number in range(100)]
    decomposed = {unicodedata.normalize("NFD", name) for name in held_out(*names)}
    assert held_out(*(unicodedata.normalize("NFD", name) for name in names)) == decomposed


def test_all_classes_that_are_too_small_to_split_are_named_with_their_counts(tmp_path):
    write(tmp_path, *(f"cat/{number}.png" for number in range(20)), "eel/0.png", "owl/0.png")
    layout = find_images(tmp_path)
    with pytest.raises(RequestError) as error:
        refuse_small_classes(with_test_split(layout), layout.class_names)
    assert "eel (0 training, 1 test), owl (0 training, 1 test); each class" in str(error.value)
    write(tmp_path, *(f"{number}/0.png" for number in range(10)))
    layout = find_images(tmp_path)
    with pytest.raises(RequestError, match=r"4 \(0 training, 1 test\) and 7 more; each class"):
        refuse_small_classes(with_test_split(layout), layout.class_names)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
@pytest.mark.parametrize("has_test", [False, True])
def test_a_validation_folder_is_used(name, has_test, tmp_path):
    for folder in ("train", name, *["test"] * has_test):
        write(tmp_path, f"{folder}/cat/0.png", f"{folder}/dog/0.png", f"{folder}/dog/1.png")
    layout = find_images(tmp_path)
    assert layout.class_names == ("cat", "dog")
    assert layout.splits["validation"].labels.tolist() == [0, 1, 1]
    assert {Path(path).parts[-3] for path in layout.splits["validation"].paths} == {name}
    assert {Path(path).parts[-3] for path in layout.splits["train"].paths} == {"train"}
    assert ("test" in layout.splits) == has_test


def test_two_validation_folders_are_refused(tmp_path):
    for folder in ("train", "val", "dev"):
        write(tmp_path, f"{folder}/cat/0.png")
    with pytest.raises(RequestError, match="folders val and dev, and only one can be"):
        find_images(tmp_path)


def test_classes_may_be_called_like_splits(tmp_path):
    write(tmp_path, "train/0.png", "tram/0.png")
    assert find_images(tmp_path).class_names == ("train", "tram")


def test_what_belongs_to_no_class_is_reported(tmp_path):
    for folder in ("train", "test", "extra"):
        write(tmp_path, f"{folder}/cat/0.png", f"{folder}/dog/0.png")
    write(tmp_path, "labels.csv", "train/notes.txt")
    ignored = find_images(tmp_path).ignored
    assert sorted(ignored) == [
        str(tmp_path / name) for name in ("extra", "labels.csv", "train/notes.txt")
    ]


def test_what_the_system_writes_is_left_out(tmp_path):
    write(tmp_path, "cat/0.png", "dog/0.png", "__MACOSX/cat/._0.png", ".git/config", "Thumbs.db")
    write(tmp_path, "cat/Thumbs.db", "cat/desktop.ini", "dog/.DS_Store", "dog/._0.png")
    layout = find_images(tmp_path)
    assert layout.class_names == ("cat", "dog") and not layout.ignored
    assert [Path(path).name for path in layout.splits["all"].paths] == ["0.png", "0.png"]


def test_a_class_that_a_split_lacks_is_named_with_the_split(tmp_path):
    for degrees in (0, 90, 180, 270):
        write(tmp_path, f"train/{degrees}/a.png")
        if degrees != 180:
            write(tmp_path, f"test/{degrees}/a.png")
    with pytest.raises(RequestError) as error:
        find_images(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'test'}: lacks class 180, which train has")


def test_a_class_only_in_the_test_folder_is_refused(tmp_path):
    write(tmp_path, "train/cat/0.png", "test/cat/0.png", "test/horse/0.png")
    with pytest.raises(RequestError, match=r"test: class horse is not in .*/train; rename it"):
        find_images(tmp_path)


def test_folders_within_a_class_are_refused(tmp_path):
    write(tmp_path, "cat/0.png", "dog/young/0.png")
    with pytest.raises(RequestError, match=r"young: is a folder in a class folder; put images in"):
        find_images(tmp_path)


def test_names_that_are_no_text_are_held_out_like_others(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    assert len(held_out(name, "a.png", "b.png", "c.png")) >= 1


def test_a_train_folder_alone_is_a_split(tmp_path):
    write(tmp_path, "train/cat/0.png", "train/dog/0.png")
    layout = find_images(tmp_path)
    assert layout.class_names == ("cat", "dog") and list(layout.splits) == ["train"]


def test_given_classes_keep_their_labels_and_may_be_missing(tmp_path):
    write(tmp_path, "test/dog/0.png", "test/ant/0.png")
    layout = find_images(tmp_path, ("ant", "bee", "dog"))
    assert list(layout.splits) == ["test"]
    assert [Path(path).parent.name for path in layout.splits["test"].paths] == ["ant", "dog"]
    assert layout.splits["test"].labels.tolist() == [0, 2]


def test_a_class_that_is_not_given_is_refused(tmp_path):
    write(tmp_path, "cat/0.png", "wolf/0.png")
    with pytest.raises(
        RequestError, match="class wolf is not one of the trained classes, cat, dog"
    ):
        find_images(tmp_path, ("cat", "dog"))
