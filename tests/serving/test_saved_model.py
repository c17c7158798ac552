"""Exported models give the predictions of the run, also without this package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
from cifar_models.run.load import FinishedRun
from cifar_models.serving import saved_model
from cifar_models.serving.formats import EXPORT_FORMATS, ExportFormat

# The program of a user who has TensorFlow but not this package.
CLIENT = """
import sys, json
import numpy as np
import tensorflow as tf
assert not any("cifar_models" in path for path in sys.modules)
model = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
for count in (1, 5):
    outputs = model(images=tf.zeros((count, 8, 8, 1), tf.uint8))
    assert outputs["probabilities"].shape == (count, 10)
images = np.load(sys.argv[2])
outputs = model(images=tf.constant(images))
print(json.dumps([outputs["probabilities"].numpy().tolist(),
                  [name.decode() for name in outputs["class_names"].numpy()]]))
"""


def test_a_saved_model_predicts_without_this_package(finished_run, tmp_path, capsys):
    out = tmp_path / "served"
    assert main(["export", str(finished_run), "--format", "saved_model", "--out", str(out)]) == 0
    assert "largest difference" in capsys.readouterr().out
    images = load_dataset(read_recipe("digits-cnn")).test.images_at(slice(None))
    np.save(tmp_path / "images.npy", images)
    result = subprocess.run(
        [sys.executable, "-I", "-c", CLIENT, str(out), str(tmp_path / "images.npy")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    probabilities, names = json.loads(result.stdout.splitlines()[-1])
    with np.load(finished_run / "predictions.npz") as file:
        np.testing.assert_allclose(probabilities, file["probabilities"], atol=1e-5)
        assert names == file["class_names"].tolist()


@pytest.mark.parametrize(
    "recipe", [pytest.param("digits-vit", marks=pytest.mark.slow), "digits-hybrid"]
)
@pytest.mark.slow
def test_transformers_can_be_exported(recipe, tmp_path):
    run = tmp_path / "run"
    small = ["--set", "training.epochs=1", "--set", "model.num_layers=1"]
    assert main(["train", recipe, *small, "--run", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    assert (run / "export" / "saved_model.pb").is_file()


def test_an_existing_path_is_refused(finished_run, tmp_path, capsys):
    assert main(["export", str(finished_run), "--out", str(tmp_path)]) == 2
    assert f"{tmp_path}: exists" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_export_with_other_predictions_leaves_nothing(
    finished_run, tmp_path, monkeypatch, capsys
):
    def slightly_wrong(self, images):
        probabilities = tf.nn.softmax(self._network(images, training=False))
        return {"probabilities": probabilities + 2e-5, "class_names": self._class_names}

    monkeypatch.setattr(saved_model.SavedNetwork, "_predict", slightly_wrong)
    assert main(["export", str(finished_run), "--out", str(tmp_path / "served")]) == 1
    assert "differ from the model's by 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_that_cannot_be_read_back_leaves_nothing(
    finished_run, tmp_path, monkeypatch, capsys
):
    """The child process must not see the GPUs, because this process may use all their memory."""
    program = "import os; raise SystemExit('sees GPU ' + os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setattr(saved_model, "RELOAD_SCRIPT", program)
    assert main(["export", str(finished_run), "--out", str(tmp_path / "served")]) == 1
    assert "could not be read back: sees GPU -1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def export_class_names(run: FinishedRun, out: Path, images: np.ndarray) -> float:
    """Write only the names of the classes."""
    out.write_text(" ".join(run.dataset.class_names))
    return 0.0


def test_a_format_can_be_added_from_outside(finished_run, tmp_path, monkeypatch, capsys):
    toy = ExportFormat(f"{__name__}:export_class_names", "the names of the classes")
    monkeypatch.setitem(EXPORT_FORMATS, "class_names", toy)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "class_names: the names of the classes" in " ".join(capsys.readouterr().out.split())
    out = tmp_path / "names.txt"
    arguments = ["--format", "class_names", "--out", str(out), "--data-dir", "here"]
    assert main(["export", str(finished_run), *arguments]) == 0
    assert out.read_text() == "0 1 2 3 4 5 6 7 8 9"
    assert f"{out}: class_names" in capsys.readouterr().out


def test_an_unknown_format_is_refused(finished_run, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(finished_run), "--format", "onnx"])
    assert "saved_model" in capsys.readouterr().err
