"""Paths of files that are packed into one object of bytes."""

import os

import numpy as np
import pytest

from cifar_models.data.file_paths import FilePaths

NAMES = ["a/0.png", "", "ü/猫.png", os.fsdecode(b"\xff.png"), "b"]


def test_paths_are_returned_as_they_were_given():
    paths = FilePaths.of(NAMES)
    assert list(paths) == NAMES and len(paths) == 5
    assert (paths[0], paths[-1], paths[3]) == (NAMES[0], NAMES[-1], NAMES[3])
    assert list(paths[1::2]) == NAMES[1::2]
    with pytest.raises(IndexError):
        paths[5]


def test_subsets_keep_the_order_of_the_indices():
    subset = FilePaths.of(NAMES).subset(np.array([3, 0, 3]))
    assert list(subset) == [NAMES[3], NAMES[0], NAMES[3]]
    assert list(subset.subset(np.array([1]))) == [NAMES[0]]


def test_there_may_be_no_paths():
    empty = FilePaths.of([])
    assert list(empty) == [] and list(empty.subset(np.array([], int))) == []
