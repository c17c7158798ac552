"""The CPU kernels of oneDNN: the recipe chooses, and the user's environment has the last word."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.runtime.onednn import VARIABLE, choose_onednn
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN


def run(*arguments: str, **variables: str) -> str:
    """Run the command line in a new process, and return what it prints."""
    inherited = {key: value for key, value in os.environ.items() if key != VARIABLE}
    result = subprocess.run(
        [sys.executable, "-m", "cifar_models", *arguments],
        env={**inherited, **variables},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.mark.slow
def test_a_run_records_its_kernels_and_every_later_process_uses_the_same(tmp_path):
    folders = {setting: tmp_path / setting for setting in ("on", "off")}
    run(*TINY_CNN, "--run", str(folders["on"]))
    run(*TINY_CNN, "--no-onednn", "--run", str(folders["off"]))
    for setting, folder in folders.items():
        recorded = json.loads((folder / "environment.json").read_text())
        assert recorded["onednn"] == (setting == "on")
        before = RunFolder(folder).read_predictions()[1].tobytes()
        assert "no effect" not in run("evaluate", str(folder))
        assert RunFolder(folder).read_predictions()[1].tobytes() == before
    text = run("evaluate", str(folders["on"]), **{VARIABLE: "0"})
    assert 'runtime.onednn = "on" has no effect' in text and f"{VARIABLE}=0" in text


def test_the_environment_wins_and_auto_leaves_the_choice_to_tensorflow(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    for setting, given, expected in (
        ("on", None, "1"),
        ("off", None, "0"),
        ("auto", None, None),
        ("on", "0", "0"),
        ("off", "1", "1"),
    ):
        monkeypatch.delenv(VARIABLE, raising=False)
        if given is not None:
            monkeypatch.setenv(VARIABLE, given)
        choose_onednn(setting)
        assert os.environ.get(VARIABLE) == expected
    monkeypatch.delenv(VARIABLE)


def test_a_process_that_has_imported_tensorflow_keeps_its_kernels(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    choose_onednn("off")
    assert VARIABLE not in os.environ


def test_a_recipe_and_the_option_have_the_key(capsys):
    assert read_recipe("cnn", []).runtime.onednn == "on"
    assert main(["train", "cnn", "--set", "runtime.onednn=maybe"]) == 2
    assert 'must be "auto", "on" or "off"' in capsys.readouterr().err


# A shortcut of a narrow residual CNN: 4 channels, 1x1 pixels, stride 2.
STRIDED_SHORTCUT = """
import numpy as np
import tensorflow as tf
from cifar_models.layers.convolution import MirroredGradientConv2D

images, upstream = np.load("images.npy"), np.load("upstream.npy")
layer = MirroredGradientConv2D(8, 1, 2, padding="valid", use_bias=False)
layer.build(images.shape)
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(images) * upstream)
np.save("gradient.npy", tape.gradient(loss, layer.kernel.value))
"""


def test_the_gradient_of_a_narrow_shortcut_is_right_on_a_cpu_without_avx512(tmp_path):
    """oneDNN's own is wrong there in most calls, by more than the gradient itself (issue 6035)."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(32, 8, 8, 4)).astype(np.float32)
    upstream = rng.normal(size=(32, 4, 4, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "upstream.npy", upstream)
    variables = {
        VARIABLE: "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", STRIDED_SHORTCUT]
    subprocess.run(command, env={**os.environ, **variables}, cwd=tmp_path, check=True)
    expected = np.einsum("bhwc,bhwf->cf", images[:, ::2, ::2], upstream)
    gradient = np.load(tmp_path / "gradient.npy")[0, 0]
    np.testing.assert_allclose(gradient, expected, atol=1e-3)
