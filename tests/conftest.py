"""Shared by every test: TensorFlow quiet, small data, one trained run."""

import csv
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cifar_models.cli.main import main

# Every tiny run: a CNN that takes seconds on the digits.
TINY_CNN = [
    "train",
    "digits-cnn",
    *("--set", "training.epochs=2"),
    *("--set", "model.stage_filters=[8, 16]"),
    *("--set", "model.stem_filters=8"),
]

EVERY_STEP = ["--set", "runtime.checkpoint_seconds=0"]


def as_overrides(options: list[str]) -> list[str]:
    """Turns every bare `table.key=value` into a --set."""
    separate: list[str] = []
    for option in options:
        is_bare = "=" in option and separate[-1:] != ["--set"]
        separate += ["--set", option] if is_bare else [option]
    return separate


class Killed(BaseException):
    """Stands for SIGKILL in a test that cannot afford a process of its own."""


def killed_at(step: int, arguments: list[str]) -> None:
    """Runs a command that ends with the execution of a step, before anything is saved of it."""
    from cifar_models.training.callbacks import Stopwatch

    real = Stopwatch.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        real(self, batch, logs)
        if self._progress.step >= step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Stopwatch, "on_train_batch_end", on_train_batch_end)
        main(arguments)


TIMINGS = (
    *("images_per_second", "seconds", "saving_seconds", "train_seconds", "compile_seconds"),
    *("initialisation_seconds", "prediction_seconds", "process_seconds"),
)


def outcome_of(run: Path) -> dict[str, object]:
    """All that a run results in, to the last bit, but for how long it took."""

    def without_timings(row: dict) -> dict:
        return {key: value for key, value in row.items() if key not in TIMINGS}

    with (run / "history.csv").open(newline="") as rows:
        history = [without_timings(row) for row in csv.DictReader(rows)]
    return {
        "weights": weights_of(run),
        "history": history,
        "metrics": without_timings(json.loads((run / "metrics.json").read_text())),
        "predictions": hashlib.sha256((run / "predictions.npz").read_bytes()).hexdigest(),
    }


def weights_of(run: Path) -> dict[str, str]:
    """The hash of every array in the model file, read without Keras."""
    hashes: dict[str, str] = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            hashes[name] = hashlib.sha256(item[()].tobytes()).hexdigest()

    with zipfile.ZipFile(run / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as weights:
        weights.visititems(note)
    assert hashes
    return hashes


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked gpu is skipped where there is none."""
    if item.get_closest_marker("gpu") and not Path("/dev/nvidiactl").exists():
        pytest.skip("needs a GPU")


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
