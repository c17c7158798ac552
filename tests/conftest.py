"""Fixtures and helpers that several tests use: small runs, their results, and small images."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# As recipes choose it. A test imports TensorFlow before a recipe is read, so without this, its
# process would have other kernels than the processes whose bits it compares, on some CPUs.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# A background job of a script ignores Ctrl-C, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from cifar_models.cli.main import main


def as_overrides(arguments: list[str]) -> list[str]:
    """Return a command line in which every bare `table.key=value` has become a --set option."""
    result: list[str] = []
    for argument in arguments:
        is_bare = "=" in argument and result[-1:] != ["--set"]
        result += ["--set", argument] if is_bare else [argument]
    return result


# Trains a small CNN on the digits in a few seconds: 40 steps in 2 epochs.
TINY_CNN = as_overrides(
    [
        "train",
        "digits-cnn",
        "training.epochs=2",
        "model.stage_filters=[8, 16]",
        "model.stem_filters=8",
    ]
)
# The head of a recipe file: a CNN for the digits, whose filters the test chooses.
TINY_CNN_TOML = """
[data]
dataset = "digits"

[model]
architecture = "residual_cnn"
image_size = 8
stem_kernel_size = 3
stem_strides = 1
"""
# With four filters, for tests that train many times.
SMALLEST_CNN_TOML = f"""{TINY_CNN_TOML}stem_filters = 4
stage_filters = [4, 8]
stage_blocks = [1, 1]
"""
SAVE_EVERY_STEP = as_overrides(["runtime.checkpoint_seconds=0"])

TIMINGS = (
    "teacher_seconds",
    "images_per_second",
    "seconds",
    "saving_seconds",
    "train_seconds",
    "compile_seconds",
    "initialisation_seconds",
    "prediction_seconds",
    "process_seconds",
)


class Killed(BaseException):
    """Simulates SIGKILL within the process of the test, which is faster than a new process."""


def run_until_killed(step: int, arguments: list[str]) -> None:
    """Run a command that is killed at the end of a step, before the step is saved.

    Args:
        step: Number of the step, counted from the beginning of the run.
        arguments: Command line of `train` or `resume`.
    """
    from cifar_models.training.stopwatch import Stopwatch

    real = Stopwatch.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        real(self, batch, logs)
        if self._progress.step >= step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Stopwatch, "on_train_batch_end", on_train_batch_end)
        main(arguments)


def refusal(capsys: pytest.CaptureFixture, *command: object) -> str:
    """Run a command that must be refused with one line and exit status 2, and return the line."""
    assert main([str(argument) for argument in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def read_metrics(run: Path) -> dict:
    """Return the content of metrics.json."""
    return json.loads((run / "metrics.json").read_text())


def read_history(run: Path) -> list[dict[str, str]]:
    """Return the rows of history.csv."""
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def outcome_of(run: Path) -> dict[str, object]:
    """Return hashes of the weights and predictions, the history and the metrics, without times.

    Two runs with equal outcomes are equal to the last bit.
    """

    def without_timings(row: dict) -> dict:
        return {key: value for key, value in row.items() if key not in TIMINGS}

    return {
        "weights": weight_hashes(run),
        "history": [without_timings(row) for row in read_history(run)],
        "metrics": without_timings(read_metrics(run)),
        "predictions": hashlib.sha256((run / "predictions.npz").read_bytes()).hexdigest(),
    }


def weight_hashes(run: Path) -> dict[str, str]:
    """Return the SHA-256 of every array in model.keras, read without Keras."""
    hashes: dict[str, str] = {}

    def add_hash(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            hashes[name] = hashlib.sha256(item[()].tobytes()).hexdigest()

    with zipfile.ZipFile(run / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as weights:
        weights.visititems(add_hash)
    assert hashes
    return hashes


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write_noise_images(root: Path, class_names: Sequence[str], count: int) -> Path:
    """Write a folder of noise images of 8x8 pixels, `count` for each class, and return it."""
    rng = np.random.default_rng(0)
    for name in class_names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that is marked gpu if there is no GPU."""
    if item.get_closest_marker("gpu") and not Path("/dev/nvidiactl").exists():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run on the digits, shared by all tests: do not change it."""
    folder = tmp_path_factory.mktemp("runs") / "cnn"
    assert main([*TINY_CNN, "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def run_copy(finished_run, tmp_path) -> Path:
    """Return a copy of the finished run that the test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def images() -> np.ndarray:
    """Return eight random colour images, uint8 (8, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.fixture(scope="session", autouse=True)
def without_bfloat16() -> Iterator[None]:
    """Hide the CPU's flags, so that a test computes in float32 unless it asks for another."""
    from cifar_models.runtime import device

    cpu_info = device._cpu_info
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_cpu_info", lambda key: "" if key == "flags" else cpu_info(key))
        yield


@pytest.fixture
def float32_policy():
    """Restore the precision policy of Keras after a test that changes it."""
    import keras

    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def without_figures(monkeypatch) -> None:
    """Leave out the figures and the TensorBoard events of finished runs, to save time."""
    from cifar_models.run import record

    monkeypatch.setattr(record, "draw_figures", lambda *arguments: None)
    monkeypatch.setattr(record, "record_in_tensorboard", lambda *arguments: None)
