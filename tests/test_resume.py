"""A run that was stopped or killed ends as if nothing had happened."""

import json

import pytest

from cifar_models import run as run_module
from cifar_models.cli import main
from cifar_models.training.progress import Stopwatch
from tests.conftest import TINY_CNN, outcome_of

TINY_VIT = [
    *("train", "digits-vit", "--set", "training.epochs=2"),
    *("--set", "model.hidden_dim=16", "--set", "model.num_layers=2", "--set", "model.num_heads=2"),
]
TINY_HYBRID = [
    *("train", "digits-hybrid", "--set", "training.epochs=2"),
    *("--set", "model.hidden_dim=16", "--set", "model.num_layers=2", "--set", "model.num_heads=2"),
]
EVERY_STEP = "runtime.checkpoint_seconds=0"

# Every optimizer and every option that has a state or draws a random number, in a few runs.
OPTIONS = {
    "sgd": [
        *TINY_CNN,
        *("training.ema_decay=0.9", "training.gradient_clip_norm=0.5", "training.keep=best"),
        *("augmentation.crop_padding=2", "augmentation.horizontal_flip=true", "model.l1=1e-5"),
    ],
    "adamw": [
        *TINY_CNN,
        *("training.optimizer=adamw", "training.weight_decay=0.1", "training.keep=last"),
        *("model.dropout_rate=0.3", "model.stochastic_depth_rate=0.3"),
        *("augmentation.rand_augment_layers=2", "augmentation.random_erasing=0.5"),
    ],
    "vit": [
        *TINY_VIT,
        *("training.ema_decay=0.99", "training.keep=best", "model.dropout_rate=0.2"),
        *("model.attention_dropout_rate=0.2", "model.stochastic_depth_rate=0.2"),
        *("augmentation.mixup_alpha=0.8", "augmentation.cutmix_alpha=1.0"),
        "augmentation.mix_until_fraction=0.7",
    ],
    "hybrid in bfloat16": [
        *TINY_HYBRID,
        *("runtime.precision=mixed_bfloat16", "training.optimizer=sgd", "training.keep=best"),
        *("model.dropout_rate=0.2", "augmentation.mixup_alpha=0.2"),
    ],
    "vit in float16": [
        *TINY_VIT,
        *("runtime.precision=mixed_float16", "training.ema_decay=0.9", "training.keep=best"),
        *("training.gradient_clip_norm=1.0", "model.pooling=token", "training.label_smoothing=0"),
    ],
    "stopped early": [
        *TINY_CNN,
        *("training.epochs=9", "training.early_stopping_epochs=2", "training.keep=best"),
        "training.peak_learning_rate=1e-9",
    ],
}


class Killed(BaseException):
    """Stands for SIGKILL in a test that cannot afford a process of its own."""


def arguments_of(options: list[str]) -> list[str]:
    """Turns every bare `table.key=value` into a --set."""
    separate: list[str] = []
    for option in options:
        is_override = "=" in option and (not separate or separate[-1] != "--set")
        separate += ["--set", option] if is_override else [option]
    return [*separate, "--deterministic"]


def die_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Stopwatch.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        real(self, batch, logs)
        if self._progress.step == step:
            raise Killed

    monkeypatch.setattr(Stopwatch, "on_train_batch_end", on_train_batch_end)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_resumes_to_the_same_bytes(name, tmp_path, float32_policy):
    """Killed in the middle of the first epoch, again later, and in the evaluation at the end."""
    arguments = arguments_of(OPTIONS[name])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*arguments, "--run", str(whole)]) == 0
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_at(13, patch)
        main([*arguments, "--set", EVERY_STEP, "--run", str(killed)])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_at(31, patch)
        main(["resume", str(killed)])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module, "draw_figures", lambda *arguments: raise_(Killed()))
        main(["resume", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(whole)


def raise_(error: BaseException) -> None:
    raise error


def test_a_finished_run_is_left_alone(finished_run, capsys):
    before = (finished_run / "metrics.json").stat().st_mtime_ns
    assert main(["resume", str(finished_run)]) == 0
    assert "has finished" in capsys.readouterr().out
    assert (finished_run / "metrics.json").stat().st_mtime_ns == before
    assert json.loads((finished_run / "metrics.json").read_text())["epochs"] == 2
