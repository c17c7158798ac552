"""Shared by every test: TensorFlow quiet, small data, one trained run."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cifar_models.cli import main

# Every tiny run: a CNN that takes seconds on the digits.
TINY_CNN = [
    "train",
    "digits-cnn",
    *("--set", "training.epochs=2"),
    *("--set", "model.stage_filters=[8, 16]"),
    *("--set", "model.stem_filters=8"),
]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished run on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "cnn"
    assert main([*TINY_CNN, "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def images() -> np.ndarray:
    """Eight random colour images, uint8 (8, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.fixture
def float32_policy():
    """Restores Keras' precision after a test that changes it."""
    import keras

    yield
    keras.config.set_dtype_policy("float32")
