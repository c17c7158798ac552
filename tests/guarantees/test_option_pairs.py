"""Every pair of options trains together."""

import numpy as np
import pytest
from scipy.linalg import hadamard

from cifar_models.cli.main import main
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN, as_overrides

OPTIONS = (
    ("training.optimizer=sgd", "training.optimizer=adamw"),
    ("training.schedule=cosine", "training.schedule=linear"),
    ("training.weight_decay=0.0", "training.weight_decay=0.01"),
    ("training.lookahead_steps=0", "training.lookahead_steps=3"),
    ("training.ema_decay=0.0", "training.ema_decay=0.9"),
    ("training.gradient_clip_norm=0.0", "training.gradient_clip_norm=1.0"),
    ("training.label_smoothing=0.0", "training.label_smoothing=0.1"),
    ("training.keep=best", "training.keep=last"),
    ("training.early_stopping_epochs=0", "training.early_stopping_epochs=1"),
    ("runtime.precision=float32", "runtime.precision=mixed_float16"),
    ("runtime.xla=off", "runtime.xla=on"),
    ("runtime.steps_per_execution=1", "runtime.steps_per_execution=5"),
    ("runtime.data_on_device=off", "runtime.data_on_device=on"),
    ("augmentation.crop_padding=0", "augmentation.crop_padding=2"),
    ("augmentation.alternating_flip=false", "augmentation.alternating_flip=true"),
    ("augmentation.cutout_size=0", "augmentation.cutout_size=3"),
    ("augmentation.tta_views=1", "augmentation.tta_views=6"),
    ("augmentation.rand_augment_layers=0", "augmentation.rand_augment_layers=1"),
    ("augmentation.random_erasing=0.0", "augmentation.random_erasing=0.5"),
    ("augmentation.mixup_alpha=0.0", "augmentation.mixup_alpha=0.4"),
    ("augmentation.cutmix_alpha=0.0", "augmentation.cutmix_alpha=1.0"),
    ("augmentation.resized_crop_min_area=0.0", "augmentation.resized_crop_min_area=0.5"),
    ("augmentation.jitter_brightness=0.0", "augmentation.jitter_brightness=0.3"),
    ("training.class_weights=none", "training.class_weights=balanced"),
    ("training.body_learning_rate_factor=1.0", "training.body_learning_rate_factor=0.5"),
    ("model.dropout_rate=0.0", "model.dropout_rate=0.2"),
    ("model.stochastic_depth_rate=0.0", "model.stochastic_depth_rate=0.2"),
    ("model.pre_activation=false", "model.pre_activation=true"),
)
# Orthogonal array of strength two: for any two options, its 32 rows have all four combinations.
ARRAY = (hadamard(32)[:, 1 : 1 + len(OPTIONS)] + 1) // 2


def test_the_array_has_every_combination_of_two_options():
    assert ARRAY.shape == (32, len(OPTIONS))
    for i in range(len(OPTIONS)):
        for j in range(i):
            assert len(np.unique(ARRAY[:, [i, j]], axis=0)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("row", range(32))
def test_every_pair_of_options_trains(row, tmp_path, without_figures, float32_policy):
    settings = [pair[on] for pair, on in zip(OPTIONS, ARRAY[row], strict=True)]
    run = tmp_path / "run"
    assert main([*as_overrides([*TINY_CNN, *settings]), "--run", str(run)]) == 0
    losses = [epoch["train_loss"] for epoch in RunFolder(run).read_history()]
    assert losses[-1] < losses[0]
