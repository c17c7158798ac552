"""Class weights: their values, and the loss that they give."""

import keras
import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.errors import RequestError
from cifar_models.models.catalog import build_network
from cifar_models.runtime.device import configure
from cifar_models.training.class_weights import class_weights
from cifar_models.training.fit import make_trainer
from tests.conftest import TINY_CNN, refusal

NAMES = ("cat", "dog", "owl")
LABELS = np.repeat([0, 1, 2], [200, 3, 97])


def test_balanced_weights_are_inverse_to_the_counts():
    np.testing.assert_allclose(
        class_weights("balanced", LABELS, NAMES), [300 / 600, 300 / 9, 300 / 291], rtol=1e-6
    )


def test_weights_are_given_by_name():
    assert class_weights({"owl": 4, "cat": 0.5}, LABELS, NAMES).tolist() == [0.5, 1, 4]
    assert class_weights("none", LABELS, NAMES) is None


def test_a_class_that_does_not_exist_is_named(tmp_path, capsys):
    with pytest.raises(RequestError, match="no class is called 'wolf'; the classes are cat, dog"):
        class_weights({"wolf": 2.0}, LABELS, NAMES)
    options = ["--set", "training.class_weights={ten = 2}", "--run", str(tmp_path / "run")]
    assert "no class is called 'ten'" in refusal(capsys, *TINY_CNN, *options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("balance", "must be 'none' or 'balanced', or a table"),
        ("{cat = 0}", "must hold only numbers that are above 0"),
        ("{cat = true}", "must be a number"),
        ("[1.0]", "must be text"),
    ],
)
def test_wrong_weights_are_refused(text, problem):
    with pytest.raises(RequestError, match=r"training\.class_weights") as error:
        read_recipe("digits-cnn", [f"training.class_weights={text}"])
    assert problem in str(error.value)


def test_a_table_of_weights_is_written_and_read_back(tmp_path):
    recipe = read_recipe("digits-cnn", ['training.class_weights={"red panda" = 2, "1" = 0.5}'])
    assert recipe.training.class_weights == {"red panda": 2.0, "1": 0.5}
    (tmp_path / "again.toml").write_text(recipe_toml(recipe))
    assert read_recipe(str(tmp_path / "again.toml")) == recipe


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_weighted_mean_of_cross_entropies(smoothing):
    """The weights multiply the loss of each image, whose mean is over all images."""
    overrides = [
        f"training.label_smoothing={smoothing}",
        "model.l1=0",
        "model.l2=0",
        "model.stage_filters=[4, 4]",
        "augmentation.crop_padding=0",
        "augmentation.horizontal_flip=false",
        "training.weight_decay=0",
    ]
    recipe = read_recipe("digits-cnn", overrides)
    runtime = configure(recipe.runtime)
    network = build_network(recipe.model, (8, 8, 1), 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 1), np.uint8)
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = np.array([0.5, 3.0, 1.0], np.float32)
    log_probabilities = np.log(keras.ops.softmax(network(images, training=True)))
    targets = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    expected = np.mean(weights[labels] * -(targets * log_probabilities).sum(axis=1))
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=1)
    trainer.weigh_classes(weights)
    result = trainer.train_step((images, labels, np.zeros(6, bool)))
    assert float(result["loss"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_run_with_balanced_weights_is_finished(tmp_path):
    options = ["--set", "training.class_weights=balanced", "--set", "training.epochs=1"]
    assert main([*TINY_CNN, *options, "--run", str(tmp_path / "run")]) == 0
