"""Exported models give the predictions of the run, also without this package."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
from cifar_models.serving import export, saved_model
from cifar_models.serving.export_job import ExportJob
from cifar_models.serving.formats import EXPORT_FORMATS, ExportFormat
from cifar_models.serving.signature import SavedNetwork

# The program of a user who has TensorFlow but not this package.
CLIENT = """
import sys, json
import numpy as np
import tensorflow as tf
assert not any("cifar_models" in path for path in sys.modules)
signatures = tf.saved_model.load(sys.argv[1]).signatures
model = signatures["serving_default"]
for count in (1, 5):
    outputs = model(images=tf.zeros((count, 8, 8, 1), tf.uint8))
    assert outputs["probabilities"].shape == (count, 10)
images = np.load(sys.argv[2])
outputs = model(images=tf.constant(images))
print(json.dumps([outputs["probabilities"].numpy().tolist(),
                  [name.decode() for name in signatures["class_names"]()["class_names"].numpy()]]))
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
    class SlightlyWrong(SavedNetwork):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            predict, images = self.predict, self.predict.input_signature
            self.by_signature["serving_default"] = tf.function(
                lambda images: {"probabilities": predict(images)["probabilities"] + 2e-5},
                input_signature=images,
            )

    monkeypatch.setattr(saved_model, "SavedNetwork", SlightlyWrong)
    assert main(["export", str(finished_run), "--out", str(tmp_path / "served")]) == 1
    assert "differ from the model's by 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_that_cannot_be_read_back_leaves_nothing(
    finished_run, tmp_path, monkeypatch, capsys
):
    """The child process must not see the GPUs, because this process may use all their memory."""
    program = "import os; raise SystemExit('sees GPU ' + os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setattr(saved_model, "READ_SCRIPT", program)
    assert main(["export", str(finished_run), "--out", str(tmp_path / "served")]) == 1
    assert "could not be read back: sees GPU -1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# A format of outside this package: the probabilities of black images.
READ_SCRIPT = """
import sys
import numpy as np
folder, images, outputs_path = sys.argv[1:]
probabilities = np.load(f"{folder}/black.npy").repeat(len(np.load(images)), axis=0)
np.savez(outputs_path, probabilities=probabilities)
"""


def write_model(job: ExportJob) -> None:
    job.out.mkdir()
    black = np.zeros((1, *job.network.input_shape[1:]), np.uint8)
    np.save(job.out / "black.npy", tf.nn.softmax(job.network(black, training=False)).numpy())


def test_a_format_can_be_added_from_outside(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(EXPORT_FORMATS, "black", ExportFormat(__name__, "black images"))
    monkeypatch.setattr(export, "TOLERANCE", 1.0)
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "black: black images" in " ".join(capsys.readouterr().out.split())
    arguments = ["--format", "black", "--data-dir", "here"]
    assert main(["export", str(finished_run), *arguments, "--out", str(tmp_path / "black")]) == 0
    assert f"{tmp_path / 'black'}: black, float32" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "black").iterdir()} == {
        "black.npy",
        "README.md",
        "model_card.json",
    }


def test_an_unknown_format_is_refused(finished_run, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(finished_run), "--format", "core_ml"])
    assert "saved_model" in capsys.readouterr().err
