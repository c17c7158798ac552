"""Tables of image files and labels: columns, splits and wrong rows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.held_out_files import with_test_split
from cifar_models.data.label_table import read_label_table
from cifar_models.data.load import load_dataset
from cifar_models.errors import RequestError
from tests.conftest import TINY_CNN, as_overrides


def table(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_without_splits(tmp_path):
    path = table(
        tmp_path, "label,note,path", "dog,x,a/1.png", '"cat, black",,b 2.png', "dog,,3.png"
    )
    layout = read_label_table(path)
    assert layout.class_names == ("cat, black", "dog")
    assert list(layout.splits["all"].paths) == [
        str(tmp_path / name) for name in ("a/1.png", "b 2.png", "3.png")
    ]
    assert layout.splits["all"].labels.tolist() == [1, 0, 1]


def test_a_table_with_splits_and_given_classes(tmp_path):
    path = table(
        tmp_path, "path,label,split", "1,cat,train", "2,dog,val", "3,dog,test", "4,cat,dev"
    )
    layout = read_label_table(path, ("ant", "cat", "dog"))
    labels = {split: files.labels.tolist() for split, files in layout.splits.items()}
    assert labels == {"train": [1], "validation": [2, 1], "test": [2]}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["file,label", "1,cat"], r"has no column path; .* \(it names file, label\)"),
        (["path,label"], "lists no images"),
        (["path,label", "1,"], "line 2: lacks a path or a label"),
        (["path,label", "1,cat", "1,dog"], "line 3: 1 is listed twice"),
        (["path,label,split", "1,cat,holdout"], "line 2: split 'holdout' is not one of train"),
        (["path,label,Split", "1,cat,test"], "the first line names Split; call one column split"),
        (["path,label,label", "1,cat,dog"], "the first line names label, label; call one column"),
        (["path,label", "1,no defect, dusty"], "line 2: has more fields than the first line"),
    ],
)
def test_wrong_tables_are_refused_with_the_line(lines, problem, tmp_path):
    with pytest.raises(RequestError, match=problem):
        read_label_table(table(tmp_path, *lines))


def test_a_label_that_the_network_does_not_know_is_refused(tmp_path):
    path = table(tmp_path, "path,label", "1,wolf")
    with pytest.raises(RequestError, match=r"line 2: label wolf is not one of .* cat, dog"):
        read_label_table(path, ("cat", "dog"))


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"path,label\n\xff\xfe,cat\n")
    with pytest.raises(RequestError, match="cannot be read"):
        read_label_table(tmp_path / "labels.csv")


def test_files_of_the_same_name_are_held_out_by_their_folders(tmp_path):
    rows = [f"scan_{number:03d}/t1.png,{('cat', 'dog')[number % 2]}" for number in range(300)]
    splits = with_test_split(read_label_table(table(tmp_path, "path,label", *rows)))
    # 60 of 300, with a standard deviation of 7
    assert 35 < len(splits["test"].paths) < 85
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = with_test_split(read_label_table(table(elsewhere, "path,label", *rows)))
    names = [Path(path).parent.name for path in splits["test"].paths]
    assert [Path(path).parent.name for path in moved["test"].paths] == names


def test_names_of_columns_may_have_spaces(tmp_path):
    path = table(tmp_path, "path, label, split", "1, cat, train", "2, cat, test")
    assert set(read_label_table(path).splits) == {"train", "test"}


def test_absolute_paths_are_held_out_wherever_the_table_is(tmp_path):
    rows = [f"{tmp_path}/images/{number}.png,cat" for number in range(300)]
    held_out = []
    for name in ("images", "other/place"):
        (tmp_path / name).mkdir(parents=True)
        layout = read_label_table(table(tmp_path / name, "path,label", *rows))
        held_out.append(list(with_test_split(layout)["test"].paths))
    assert held_out[0] == held_out[1]


def test_a_file_that_is_written_in_two_ways_is_listed_twice(tmp_path):
    with pytest.raises(RequestError, match=r"line 3: ./a/1.png is listed twice"):
        read_label_table(table(tmp_path, "path,label", "a/1.png,cat", "./a/1.png,dog"))


def test_a_run_is_trained_on_a_table(tmp_path):
    rng, rows = np.random.default_rng(0), ["path,label"]
    (tmp_path / "pictures").mkdir()
    for number in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(
            tmp_path / "pictures" / f"{number}.png"
        )
        rows.append(f"pictures/{number}.png,{('cat', 'dog')[number % 2]}")
    dataset = f"folder:{table(tmp_path, *rows)}"
    loaded = load_dataset(read_recipe("digits-cnn", [f"data.dataset='{dataset}'"]))
    for split in (loaded.train, loaded.test):
        assert [int(Path(file).stem) % 2 for file in split.files] == split.labels.tolist()
    options = as_overrides(["training.epochs=1"])
    run = str(tmp_path / "run")
    assert main([*TINY_CNN, "--dataset", dataset, *options, "--run", run]) == 0
    assert main(["evaluate", run]) == 0
