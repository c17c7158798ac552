"""Options that only affect speed change the test loss by less than another seed does."""

import numpy as np
import pytest

from cifar_models.cli.main import main
from tests.conftest import TINY_CNN, as_overrides, read_metrics

SEEDS = (0, 1, 2)


@pytest.mark.slow
def test_speed_options_change_the_loss_less_than_the_seed(
    tmp_path, without_figures, float32_policy
):
    """The loss is compared and not the accuracy, because it changes with every probability."""

    def losses(*options: str) -> np.ndarray:
        """Return the test loss of every seed."""
        result = []
        for seed in SEEDS:
            run = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            arguments = as_overrides([*TINY_CNN, "training.epochs=4", *options])
            assert main([*arguments, "--seed", str(seed), "--run", str(run)]) == 0
            result.append(read_metrics(run)["loss"])
        return np.array(result)

    plain = losses()
    between_seeds = np.ptp(plain)
    assert between_seeds > 0
    for option in (
        "runtime.xla=on",
        "runtime.precision=mixed_float16",
        "runtime.steps_per_execution=10",
    ):
        assert np.abs(losses(option) - plain).mean() < between_seeds, option
