"""What only makes a run faster changes its result by less than another seed does."""

import json

import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.run import record
from tests.conftest import TINY_CNN, as_overrides

SEEDS = (0, 1, 2)


@pytest.mark.slow
def test_compiler_and_precision_change_less_than_the_seed(tmp_path, monkeypatch, float32_policy):
    """The same seeds with and without: each test image counts, and so does how sure a model is."""
    monkeypatch.setattr(record, "draw_figures", lambda *arguments: None)
    monkeypatch.setattr(record, "record_in_tensorboard", lambda *arguments: None)

    def losses(*options: str) -> np.ndarray:
        """Of the test split, a seed each: (S,)."""
        found = []
        for seed in SEEDS:
            run = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            arguments = as_overrides([*TINY_CNN, "training.epochs=4", *options])
            assert main([*arguments, "--seed", str(seed), "--run", str(run)]) == 0
            found.append(json.loads((run / "metrics.json").read_text())["loss"])
        return np.array(found)

    plain = losses()
    between_seeds = np.ptp(plain)
    assert between_seeds > 0
    for option in (
        "runtime.xla=on",
        "runtime.precision=mixed_float16",
        "runtime.steps_per_execution=10",
    ):
        assert np.abs(losses(option) - plain).mean() < between_seeds, option
