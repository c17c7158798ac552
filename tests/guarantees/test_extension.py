"""Additions from outside the package, as CONTRIBUTING.md describes them, are trained and listed.

The code that is registered here is read from CONTRIBUTING.md.
"""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.config.architectures import ARCHITECTURES, Architecture
from cifar_models.config.augmentation import AUGMENTATIONS
from cifar_models.config.recipe import TABLES
from cifar_models.config.training import OPTIMIZERS
from cifar_models.data.load import DATA_SOURCES
from tests.conftest import (
    SAVE_EVERY_STEP,
    as_overrides,
    outcome_of,
    read_metrics,
    refusal,
    run_until_killed,
    weight_hashes,
)

CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
TINY = ["train", "digits-cnn", "training.epochs=2", "data.train_fraction=0.3"]
# The architecture has other keys than the one of digits-cnn.
RECIPE = """
[data]
dataset = "digits"
train_fraction = 0.3
[model]
architecture = "small_cnn"
[training]
epochs = 2
batch_size = 64
"""


def examples() -> dict[str, str]:
    """Return the Python examples of CONTRIBUTING.md by the file name in their first line."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    return dict(blocks)


@pytest.fixture
def additions(tmp_path, monkeypatch) -> Path:
    """Write every example to a folder on the module path, and remove the entries afterwards."""
    for registry in (ARCHITECTURES, AUGMENTATIONS, OPTIMIZERS, DATA_SOURCES, TABLES):
        for name, value in registry.items():
            monkeypatch.setitem(registry, name, value)
    before = [dict(registry) for registry in (ARCHITECTURES, AUGMENTATIONS, OPTIMIZERS)]
    for name, code in examples().items():
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    registries = (ARCHITECTURES, AUGMENTATIONS, OPTIMIZERS)
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - set(names):
            del registry[name]
    for name in set(DATA_SOURCES) - {"digits", "folder:"}:
        del DATA_SOURCES[name]


def train(folder: Path, command: list[str], *options: str) -> dict:
    """Train a run and return its metrics."""
    run = folder / "run"
    assert main([*as_overrides([*command, *options]), "--run", str(run)]) == 0
    return read_metrics(run)


def count_calls(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list:
    """Return a list that gets an item at each call of a function."""
    real, calls = getattr(module, name), []

    def counted(*arguments):
        calls.append(name)
        return real(*arguments)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_an_architecture(additions, capsys):
    import small_cnn  # noqa: F401

    (additions / "small.toml").write_text(RECIPE)
    command = ["train", str(additions / "small.toml")]
    metrics = train(additions, command, "model.filters=6")
    convolution, classifier = 3 * 3 * 1 * 6 + 6, 6 * 10 + 10
    assert metrics["parameters"] == convolution + classifier
    assert main(["list", "models"]) == 0
    assert "one convolution, global average pooling" in capsys.readouterr().out
    error = refusal(capsys, *as_overrides([*command, "model.filtres=6"]))
    assert "did you mean model.filters?" in error


def test_an_optimizer(additions, monkeypatch, capsys):
    import lion

    built = count_calls(monkeypatch, lion, "make_lion")
    train(additions, TINY, "training.optimizer=lion", "training.peak_learning_rate=1e-3")
    assert len(built) == 1
    error = refusal(capsys, *as_overrides([*TINY, "training.optimizer=loin"]))
    assert '"muon_sgd" or "lion"' in error
    wrong_key = ["training.optimizer=lion", "training.momentum=0.5"]
    error = refusal(capsys, *as_overrides([*TINY, *wrong_key]))
    assert "training.momentum = 0.5 is for the optimizer" in error


def test_an_augmentation(additions, images, monkeypatch):
    import invert
    import tensorflow as tf

    from cifar_models.augmentation.augment import augment_batch
    from cifar_models.augmentation.batch import Batch

    traced = count_calls(monkeypatch, invert, "invert")
    train(additions, TINY, "augmentation.invert_probability=0.5")
    assert traced
    config = TABLES["augmentation"](invert_probability=0.5)
    many = np.repeat(images, 50, axis=0)
    batch = Batch(tf.constant(many), tf.eye(len(many)), tf.constant(0.0))
    result = augment_batch(config, batch, tf.constant([1, 2])).images.numpy()
    inverted = (result == 255 - many).all(axis=(1, 2, 3))
    assert (inverted | (result == many).all(axis=(1, 2, 3))).all()
    assert 150 < inverted.sum() < 250  # of 400


@pytest.mark.slow
def test_a_run_with_every_addition_resumes_to_the_same_bytes(additions):
    for name in ("small_cnn", "lion", "invert"):
        importlib.import_module(name)
    (additions / "all.toml").write_text(
        f'{RECIPE}optimizer = "lion"\npeak_learning_rate = 1e-3\n'
        "[augmentation]\ninvert_probability = 0.5\n"
    )
    uninterrupted, killed = additions / "uninterrupted", additions / "killed"
    arguments = ["train", str(additions / "all.toml"), "--deterministic"]
    assert main([*arguments, "--run", str(uninterrupted)]) == 0
    run_until_killed(7, [*arguments, *SAVE_EVERY_STEP, "--run", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(uninterrupted)
    for override in (
        "model.filters=6",
        "training.optimizer=sgd",
        "augmentation.invert_probability=0.0",
    ):
        other = additions / override
        assert main([*arguments, "--set", override, "--run", str(other)]) == 0
        assert weight_hashes(other) != weight_hashes(uninterrupted), override


def test_two_builders_for_one_configuration_class_are_refused(additions):
    small_cnn = importlib.import_module("small_cnn")
    ARCHITECTURES["other"] = Architecture(small_cnn.SmallCNNConfig(), "other:build", "another one")
    from cifar_models.models.catalog import build_network

    with pytest.raises(ValueError, match="2 builders for SmallCNNConfig"):
        build_network(small_cnn.SmallCNNConfig(), (8, 8, 1), 10)


def test_a_wrong_value_of_an_added_key_is_refused(additions, capsys):
    importlib.import_module("invert")
    for override, message in {
        "augmentation.invert_probability=2": "must be at least 0 and at most 1",
        "augmentation.invert_probabilty=1": "did you mean augmentation.invert_probability?",
    }.items():
        assert message in refusal(capsys, *as_overrides([*TINY, override]))


def test_a_data_source(additions, capsys):
    import stripes  # noqa: F401

    metrics = train(additions, TINY, "data.dataset=stripes", "training.batch_size=16")
    assert set(metrics["per_class"]) == {"horizontal", "vertical"}
    assert main(["list", "datasets"]) == 0
    assert "stripes of random width" in capsys.readouterr().out
