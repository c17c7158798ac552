"""A NaN or infinite loss ends the run, and its weights are never selected or saved."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli.main import main
from cifar_models.config.recipe import RuntimeConfig
from cifar_models.config.recipe_file import read_recipe
from cifar_models.errors import RunError
from cifar_models.runtime.device import configure
from cifar_models.storage.checkpoint_file import decode_checkpoint
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training import callbacks
from cifar_models.training.callbacks import EpochRecord
from cifar_models.training.checkpoints import Checkpointer, TrainingState
from cifar_models.training.fit import make_trainer
from cifar_models.training.progress import BestEpoch, Progress
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.training.time_budget import TimeBudget
from cifar_models.training.trainer import Trainer
from tests.conftest import SAVE_EVERY_STEP, TINY_CNN

BAD_STEP = 27  # counted from 0, in the second of two epochs of 20 steps


def test_the_error_names_the_step_and_the_learning_rate(tmp_path, capsys):
    run = tmp_path / "run"
    real = Trainer.augmented

    def augmented(self, images, labels, flip_mask, step):
        images, targets = real(self, images, labels, flip_mask, step)
        return images, targets * tf.where(step == BAD_STEP, np.nan, 1.0)

    arguments = [*TINY_CNN, *SAVE_EVERY_STEP, "--deterministic"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "augmented", augmented)
        assert main([*arguments, "--run", str(run)]) == 1
    error = capsys.readouterr().err
    warmup, peak = 8, 0.1  # steps of warm-up out of 40, and the learning rate of the recipe
    rate = peak * 0.5 * (1 + np.cos(np.pi * (BAD_STEP - warmup) / (40 - warmup)))
    assert (
        f"the loss is no longer finite at step {BAD_STEP + 1}, learning rate {rate:.3g}:" in error
    )
    assert error.count("\n") == 1 and not (run / "metrics.json").exists()

    newest = RunFolder(run).checkpoint_paths()[0]
    assert newest.stem == f"step-{BAD_STEP:010d}"  # the step before it
    arrays, _ = decode_checkpoint(newest.read_bytes())
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert main(["resume", str(run)]) == 0  # without the patch that caused it


def test_divergence_is_noticed_before_the_epoch_ends(tmp_path, capsys, monkeypatch):
    real = Trainer.augmented

    def augmented(self, images, labels, flip_mask, step):
        images, targets = real(self, images, labels, flip_mask, step)
        return images, targets * tf.where(step == 4, np.nan, 1.0)

    def fail(*arguments):
        raise AssertionError("the epoch ended")

    monkeypatch.setattr(Trainer, "augmented", augmented)
    monkeypatch.setattr(callbacks, "MIN_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(EpochRecord, "on_epoch_end", fail)
    monkeypatch.setattr(Checkpointer, "on_epoch_end", fail)
    assert main([*TINY_CNN, "--run", str(tmp_path / "run")]) == 1
    assert "the loss is no longer finite at step 5" in capsys.readouterr().err


def test_divergence_in_the_first_epoch_leaves_no_checkpoint(tmp_path, capsys):
    """The first epoch is always the best so far, so its weights could be selected."""
    arguments = [*TINY_CNN, "--set", "training.peak_learning_rate=1e30"]
    assert main([*arguments, "--run", str(tmp_path / "run")]) == 1
    assert "training diverged" in capsys.readouterr().err
    assert not RunFolder(tmp_path / "run").checkpoint_paths()


def small_trainer() -> Trainer:
    """Return a trainer of one dense layer on images of the digits' size."""
    recipe = read_recipe("digits-cnn", ["model.stage_filters=[4, 4]", "model.stem_filters=4"])
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs)))
    network = keras.Model(inputs, logits)
    return make_trainer(network, recipe, configure(RuntimeConfig()), steps_per_epoch=10)


def test_the_first_step_with_an_infinite_loss_is_recorded():
    trainer = small_trainer()
    targets = tf.one_hot([0], 10)
    logits = {"finite": tf.zeros((1, 10)), "infinite": tf.constant([[-3e38] + 9 * [3e38]])}
    for step, kind in ((4, "finite"), (5, "infinite"), (6, "finite"), (7, "infinite")):
        trainer.step.assign(step)
        loss = trainer.compute_loss(None, targets, logits[kind], training=True)
        assert np.isinf(loss) == (kind == "infinite")
    assert int(trainer.diverged_step) == 5


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_not_saved(bad):
    """An update can make the weights infinite although the loss before it was finite."""
    trainer = small_trainer()
    state = TrainingState(trainer, Progress(step=3), BestEpoch(Progress(), True, 0))
    state.encoded()
    trainer.network.layers[-1].bias.assign([bad] + 9 * [0.0])
    with pytest.raises(RunError, match="bias is no longer finite at step 3"):
        state.encoded()


def test_a_validation_loss_that_is_not_finite_ends_the_run():
    trainer, progress = small_trainer(), Progress(step=10)
    best = BestEpoch(progress, True, 0)
    context = SimpleNamespace(recipe=trainer.recipe)
    stopwatch = Stopwatch(progress)
    budget = TimeBudget(0, progress, stopwatch)
    record = EpochRecord(
        context, progress, stopwatch, best, budget, validate=lambda: (0.99, float("nan"))
    )
    record.set_model(trainer)
    with pytest.raises(RunError, match="validation loss is not finite at step 10"):
        record.on_epoch_end(0, {"loss": 1.0, "accuracy": 0.5})
    assert progress.best_epoch == 0 and not progress.rows and not best.weights


def test_the_first_of_two_equally_good_epochs_is_the_best():
    trainer, progress = small_trainer(), Progress()
    best = BestEpoch(progress, True, patience=2)
    for epoch, accuracy in enumerate((0.5, float("nan"), 0.7, 0.7), start=1):
        trainer.network.layers[-1].bias.assign(np.full(10, epoch, np.float32))
        best.update(epoch, accuracy, trainer.network)
        progress.rows.append({})
    assert (progress.best_epoch, progress.best_accuracy) == (3, 0.7)
    assert best.weights[-1].tolist() == 10 * [3.0]
    assert not best.is_out_of_patience()
    progress.rows.append({})
    assert best.is_out_of_patience()
