"""A check of a data set: counts, sizes, problems and duplicates, and a contact sheet."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from cifar_models.config.recipe_file import read_recipe, with_values
from cifar_models.config.toml_file import toml_text
from cifar_models.data.dataset import Dataset
from cifar_models.data.duplicates import near_duplicates, pixel_digests
from cifar_models.data.load import load_dataset
from cifar_models.data.splits import Split
from cifar_models.errors import RequestError
from cifar_models.storage.atomic_files import write_atomic, write_bytes_atomic

CONTACT_SHEET, PROBLEMS = "contact_sheet.png", "problems.txt"


@dataclass(frozen=True)
class DataCheck:
    """What was found in a data set.

    Attributes:
        class_names: Names of the K classes.
        counts: Split → number of images of each class, int64 (K,).
        sizes: Smallest, median and largest width and height in the files, pixels, (3, 2). None:
            the images have no files.
        problems: Kind of problem → the images or files that have it.
        remarks: What is worth a look → the same.
    """

    class_names: tuple[str, ...]
    counts: dict[str, np.ndarray]
    sizes: np.ndarray | None
    problems: dict[str, list[str]]
    remarks: dict[str, list[str]]


def check_dataset(name: str, out: Path, image_size: int, data_dir: str | None = None) -> DataCheck:
    """Read a data set as training would, and look for what spoils results.

    Args:
        name: Name of the data set, as `--dataset` takes it.
        out: Folder of the contact sheet and of the list of all problems and remarks.
        image_size: Height and width to which images of a folder are resized, pixels.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: its default.

    Raises:
        RequestError, RunError: As `load_dataset`, but unusable files are problems; or `out` holds
            a file of the same name that is not of an earlier check.
    """
    _refuse_other_files(out)
    overrides = [f"data.dataset={toml_text(name)}", "data.bad_files=skip"]
    if data_dir:
        overrides.append(f"data.data_dir={toml_text(data_dir)}")
    recipe = with_values(read_recipe("cnn", overrides), {"model.image_size": image_size})
    dataset = load_dataset(recipe)
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    present = {part: split for part, split in splits.items() if split is not None}
    report = DataCheck(
        dataset.class_names,
        {
            part: np.bincount(split.labels, minlength=len(dataset.class_names))
            for part, split in present.items()
        },
        _sizes(dataset),
        {kind: items for kind, items in _problems(dataset, present).items() if items},
        dataset.findings.remarks,
    )
    _write(report, present, out)
    return report


def _sizes(dataset: Dataset) -> np.ndarray | None:
    if not dataset.findings.sizes:
        return None
    sizes = np.array(dataset.findings.sizes).reshape(-1, 2)
    return np.percentile(sizes, [0, 50, 100], axis=0)


def _problems(dataset: Dataset, splits: dict[str, Split]) -> dict[str, list[str]]:
    """Return kind of problem → the images or files that have it, of all images in turn."""
    names = _image_names(splits)
    labels = np.concatenate([split.labels for split in splits.values()])
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(chain.from_iterable(map(pixel_digests, splits.values()))):
        groups[digest].append(index)
    equal = [group for group in groups.values() if len(group) > 1]
    is_train = np.arange(len(labels)) < len(splits["train"])

    def lines(chosen: list[list[int]]) -> list[str]:
        return [" = ".join(names[index] for index in group) for group in chosen]

    offset = len(labels) - len(dataset.test)
    equal_to_train = {index for group in equal if is_train[group].any() for index in group}
    return {
        "unusable files": dataset.findings.unusable,
        "equal images of different classes": lines(
            [group for group in equal if len(set(labels[group])) > 1]
        ),
        "equal images in training and test or validation": lines(
            [group for group in equal if is_train[group].any() and not is_train[group].all()]
        ),
        "test images that look like a training image": [
            f"{names[offset + test]} ~ {names[train]}"
            for test, train in near_duplicates(dataset.train, dataset.test)
            if offset + test not in equal_to_train
        ],
    }


def _image_names(splits: dict[str, Split]) -> list[str]:
    """Return the path of each image, or its split and its position there."""
    names: list[str] = []
    for part, split in splits.items():
        names += (
            list(split.files)
            if split.files is not None
            else [f"{part}[{index}]" for index in range(len(split))]
        )
    return names


def _refuse_other_files(out: Path) -> None:
    """Raise RequestError if a file would be replaced that is not of an earlier check."""
    existing = [name for name in (PROBLEMS, CONTACT_SHEET) if (out / name).exists()]
    if len(existing) == 1:  # an earlier check has left both
        raise RequestError(f"{out / existing[0]}: is not of a check; choose another --out")


def _write(report: DataCheck, splits: dict[str, Split], out: Path) -> None:
    from cifar_models.evaluation.contact_sheet import draw_contact_sheet  # imports matplotlib

    out.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{kind}: {item}\n"
        for kind, items in {**report.problems, **report.remarks}.items()
        for item in items
    ]
    write_bytes_atomic(out, PROBLEMS, "".join(lines).encode("utf-8", "surrogateescape"))
    train = splits["train"]
    write_atomic(
        out, CONTACT_SHEET, lambda file: draw_contact_sheet(train, report.class_names, file)
    )
