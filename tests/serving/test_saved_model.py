import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.load import load_dataset
from cifar_models.serving import saved_model as export

# Another person's program: TensorFlow alone, in a folder where this package is not.
CLIENT = """
import sys, json
import numpy as np
import tensorflow as tf
assert not any("cifar_models" in path for path in sys.modules)
model = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
for count in (1, 5):
    answer = model(images=tf.zeros((count, 8, 8, 1), tf.uint8))
    assert answer["probabilities"].shape == (count, 10)
images = np.load(sys.argv[2])
answer = model(images=tf.constant(images))
print(json.dumps([answer["probabilities"].numpy().tolist(),
                  [name.decode() for name in answer["class_names"].numpy()]]))
"""


def test_a_saved_model_answers_where_this_package_is_not(finished_run, tmp_path, capsys):
    out = tmp_path / "served"
    assert main(["export", str(finished_run), "--format", "saved_model", "--out", str(out)]) == 0
    assert "largest difference" in capsys.readouterr().out
    images = load_dataset(read_recipe("digits-cnn").data).test.images
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


@pytest.mark.parametrize("recipe", ["digits-vit", "digits-hybrid"])
def test_transformers_export_too(recipe, tmp_path):
    run = tmp_path / "run"
    small = ["--set", "training.epochs=1", "--set", "model.num_layers=1"]
    assert main(["train", recipe, *small, "--run", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    assert (run / "export" / "saved_model.pb").is_file()


def test_a_path_that_exists_is_refused(finished_run, tmp_path, capsys):
    assert main(["export", str(finished_run), "--out", str(tmp_path)]) == 2
    assert f"{tmp_path}: exists" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_that_answers_otherwise_leaves_nothing(
    finished_run, tmp_path, monkeypatch, capsys
):
    def slightly_wrong(self, images):
        probabilities = tf.nn.softmax(self._network(images, training=False))
        return {"probabilities": probabilities + 2e-5, "class_names": self._class_names}

    monkeypatch.setattr(export.SavedNetwork, "_answer", slightly_wrong)
    assert main(["export", str(finished_run), "--out", str(tmp_path / "served")]) == 1
    assert "differ from the model's by 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_that_cannot_be_read_back_leaves_nothing(
    finished_run, tmp_path, monkeypatch, capsys
):
    """Here since it does not see the GPUs, whose memory the process that trained may hold."""
    program = "import os; raise SystemExit('sees GPU ' + os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setattr(export, "RELOAD_SCRIPT", program)
    assert main(["export", str(finished_run), "--out", str(tmp_path / "served")]) == 1
    assert "could not be read back: sees GPU -1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
