"""A run that was killed and resumed ends like an uninterrupted one, to the last bit."""

import json

import pytest

from cifar_models.cli.main import main
from cifar_models.storage.records import RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.training.steps_per_execution import choose_steps_per_execution
from cifar_models.training.trainer import Trainer
from tests.conftest import (
    SAVE_EVERY_STEP,
    TINY_CNN,
    Killed,
    as_overrides,
    outcome_of,
    read_metrics,
    run_until_killed,
)

TINY_VIT = [
    "train",
    "digits-vit",
    "training.epochs=2",
    "model.hidden_dim=16",
    "model.num_layers=2",
    "model.num_heads=2",
]
TINY_HYBRID = [
    "train",
    "digits-hybrid",
    "training.epochs=2",
    "model.hidden_dim=16",
    "model.num_layers=2",
    "model.num_heads=2",
]

# Together, the runs have every optimizer and every option with a state or random numbers.
OPTIONS = {
    "sgd": [
        *TINY_CNN,
        "training.ema_decay=0.9",
        "training.gradient_clip_norm=0.5",
        "training.keep=best",
        "augmentation.crop_padding=2",
        "augmentation.horizontal_flip=true",
        "model.l1=1e-5",
    ],
    "adamw in float16": [
        *TINY_CNN,
        "training.optimizer=adamw",
        "training.weight_decay=0.1",
        "training.keep=last",
        "runtime.precision=mixed_float16",
        "training.ema_decay=0.99",
        "model.dropout_rate=0.3",
        "model.stochastic_depth_rate=0.3",
        "augmentation.random_erasing=0.5",
    ],
    "photographs": [
        *TINY_CNN,
        "training.optimizer=sgd",
        "training.class_weights=balanced",
        "training.body_learning_rate_factor=0.5",
        "augmentation.resized_crop_min_area=0.5",
        "augmentation.horizontal_flip=true",
        "augmentation.jitter_brightness=0.3",
        "augmentation.jitter_contrast=0.3",
    ],
    "stopped early": [
        *TINY_CNN,
        "training.epochs=9",
        "training.early_stopping_epochs=1",
        "training.keep=best",
        "training.peak_learning_rate=1e-9",
    ],
    "vit": [
        *TINY_VIT,
        "training.ema_decay=0.99",
        "training.keep=best",
        "model.dropout_rate=0.2",
        "model.attention_dropout_rate=0.2",
        "model.stochastic_depth_rate=0.2",
        "augmentation.mixup_alpha=0.8",
        "augmentation.cutmix_alpha=1.0",
        "augmentation.mix_until_fraction=0.7",
    ],
    "hybrid in bfloat16": [
        *TINY_HYBRID,
        "runtime.precision=mixed_bfloat16",
        "training.optimizer=sgd",
        "training.keep=best",
        "model.dropout_rate=0.2",
        "augmentation.mixup_alpha=0.2",
        "augmentation.rand_augment_layers=2",
    ],
    "fast cnn": [
        "train",
        "cnn-fast",
        "data.dataset=digits",
        "training.epochs=2",
        "training.batch_size=64",
        "model.image_size=8",
        "model.stage_filters=[4, 8]",
        "augmentation.cutout_size=2",
        "training.ema_decay=0.9",
    ],
    "fast cnn, muon, float16": [
        "train",
        "cnn-fast-muon",
        "data.dataset=digits",
        "training.epochs=2",
        "training.batch_size=64",
        "model.image_size=8",
        "model.stage_filters=[4, 8]",
        "runtime.precision=mixed_float16",
    ],
    "muon": [
        *TINY_VIT,
        "training.optimizer=muon",
        "training.peak_learning_rate=0.02",
        "training.weight_decay=0.1",
        "training.schedule=linear",
        "augmentation.tta_views=2",
    ],
    "vit in float16": [
        *TINY_VIT,
        "runtime.precision=mixed_float16",
        "training.ema_decay=0.9",
        "training.keep=best",
        "training.gradient_clip_norm=1.0",
        "model.pooling=token",
        "training.label_smoothing=0",
    ],
}
# `runtime.steps_per_execution` before and after the first kill; 1 in the other runs and in the
# uninterrupted ones. Most epochs have 20 steps.
STEPS_PER_EXECUTION = {
    "sgd": (5, 5),
    "adamw in float16": (1, 10),
    "fast cnn": (10, 3),
    "vit": (4, 10),
}
FAST = ("sgd",)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS if name not in FAST]


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_every_option_resumes_to_the_same_bytes(name, tmp_path, without_figures, float32_policy):
    """The run is killed in the middle of the first epoch and of a later one."""
    arguments = [*as_overrides(OPTIONS[name]), "--deterministic"]
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    assert main([*arguments, "--run", str(uninterrupted)]) == 0
    before, after = (
        f"steps_per_execution = {number}" for number in STEPS_PER_EXECUTION.get(name, (1, 1))
    )
    run_until_killed(
        13, [*arguments, *SAVE_EVERY_STEP, "--set", f"runtime.{before}", "--run", str(killed)]
    )
    recipe = (killed / "recipe.toml").read_text()
    assert before in recipe
    # Where the images are kept does not change the result either.
    assert 'data_on_device = "auto"' in recipe  # on a CPU, this means off
    recipe = recipe.replace('data_on_device = "auto"', 'data_on_device = "on"')
    (killed / "recipe.toml").write_text(recipe.replace(before, after))
    run_until_killed(31, ["resume", str(killed)])
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(uninterrupted)


EARLIER = {"model.padding": "same", "training.momentum_form": "keras"}


@pytest.mark.slow
def test_a_run_begun_before_a_key_existed_resumes_as_it_began(tmp_path, without_figures):
    """Neither its recipe nor its fingerprints have the key; the default is another value now."""
    earlier = as_overrides([f"{key}={value}" for key, value in EARLIER.items()])
    arguments = [*TINY_CNN, *earlier, "--deterministic"]
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    assert main([*arguments, "--run", str(uninterrupted)]) == 0
    run_until_killed(13, [*arguments, *SAVE_EVERY_STEP, "--run", str(killed)])
    recipe = (killed / "recipe.toml").read_text()
    names = tuple(f"{key.rpartition('.')[2]} = " for key in EARLIER)
    kept = [line for line in recipe.splitlines(keepends=True) if not line.startswith(names)]
    assert len(kept) == len(recipe.splitlines()) - 2
    (killed / "recipe.toml").write_text("".join(kept))
    content = json.loads((killed / "fingerprints.json").read_text())
    for key in EARLIER:
        del content["recipe"][key]
    (killed / "fingerprints.json").write_text(json.dumps(content))
    assert main(["resume", str(killed)]) == 0
    assert outcome_of(killed) == outcome_of(uninterrupted)


def test_an_execution_never_spans_two_epochs():
    for steps_per_epoch in (1, 7, 20, 24):
        for first_step in range(2 * steps_per_epoch):
            for maximum in (1, 4, 5, 50):
                number = choose_steps_per_execution(maximum, steps_per_epoch, first_step, 100)
                assert 1 <= number <= maximum
                assert first_step % number == steps_per_epoch % number == 0
    assert [
        choose_steps_per_execution(maximum, 20, 0, 100) for maximum in (3, 4, 7, 19, 20, 21)
    ] == [
        2,
        4,
        5,
        10,
        20,
        20,
    ]
    assert choose_steps_per_execution(5, 19, 0, 100) == 1  # a prime number
    assert choose_steps_per_execution(20, 20, 0, 20) == 10  # a single execution could not be timed
    assert choose_steps_per_execution(20, 20, 19, 20) == 1


@pytest.mark.slow
def test_a_run_killed_after_training_resumes_without_training(tmp_path, monkeypatch):
    real = RunFolder.write

    def write(self, content):
        if isinstance(content, RunMetrics):
            raise Killed
        real(self, content)

    run = tmp_path / "run"
    arguments = [*TINY_CNN, "--deterministic", *SAVE_EVERY_STEP, "--run", str(run)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "write", write)
        main(arguments)
    predictions = (run / "predictions.npz").read_bytes()
    (run / "predictions.npz").unlink()
    monkeypatch.setattr(Trainer, "fit", lambda *arguments: pytest.fail("a step was trained"))
    assert main(["resume", str(run)]) == 0
    assert (run / "predictions.npz").read_bytes() == predictions


def test_a_finished_run_is_not_changed(finished_run, capsys):
    before = (finished_run / "metrics.json").stat().st_mtime_ns
    assert main(["resume", str(finished_run)]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert (finished_run / "metrics.json").stat().st_mtime_ns == before
    assert read_metrics(finished_run)["epochs"] == 2
