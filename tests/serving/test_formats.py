"""ONNX and LiteRT exports, model cards, and what is predicted with exports."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from cifar_models.cli.main import main
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.grey import as_grey
from cifar_models.data.image_file import read_image
from cifar_models.data.load import load_dataset
from cifar_models.run.load import load_run
from cifar_models.serving import export as export_module
from cifar_models.serving import model_card
from cifar_models.serving.export import ExportCheck, export
from cifar_models.serving.export_job import ExportJob, ExportReport
from cifar_models.serving.formats import EXPORT_FORMATS
from cifar_models.serving.load_export import load_export
from cifar_models.serving.model_card import read_card, write_card
from cifar_models.storage.records import DatasetInfo, RunMetrics, TemperatureScaling
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import as_overrides, refusal

SMALL = {
    "digits-cnn": ["model.stage_filters=[8, 16]", "model.stem_filters=8"],
    "digits-vit": ["model.num_layers=1"],
    "digits-hybrid": ["model.num_layers=1"],
}
# Least agreement, of networks that are trained for a few epochs only: their classes are close.
LEAST = {"float32": 1.0, "bfloat16": 0.97, "float16": 0.98, "int8": 0.9}
INSTALLED = [
    name
    for name, each in EXPORT_FORMATS.items()
    if all(map(find_spec, (*each.packages, *each.export_packages)))
]
PRECISIONS = [(name, each) for name in INSTALLED for each in EXPORT_FORMATS[name].precisions]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Write four test images of the digits as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    images = load_dataset(read_recipe("digits-cnn")).test.images_at(slice(4))
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def exports(finished_run, tmp_path_factory) -> dict[str, Path]:
    """Export a run in every format, once for all tests."""
    folder = tmp_path_factory.mktemp("exports")
    return {name: export(finished_run, folder / name, name).path for name in INSTALLED}


@pytest.mark.parametrize("name", INSTALLED)
def test_an_export_predicts_image_files_like_its_run(name, exports, finished_run, pictures, capsys):
    expected = list(load_run(finished_run).predict([pictures]))
    found = list(load_export(exports[name]).predict([pictures]))
    assert [Path(each.path).name for each in found] == ["0.png", "1.png", "2.png", "3.png"]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        assert one.class_names == other.class_names
    assert main(["predict", str(exports[name]), str(pictures), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*0\.png: \d \d+\.\d%  \d \d+\.\d%", lines[0])


@pytest.mark.parametrize("name", INSTALLED)
def test_the_code_of_a_model_card_runs_without_this_package(
    name, exports, finished_run, pictures, tmp_path
):
    card = (exports[name] / "README.md").read_text()
    metadata, text = card.split("---\n", 2)[1:]
    assert "pipeline_tag: image-classification" in metadata
    folder = tmp_path / "elsewhere"
    folder.symlink_to(exports[name])
    expected = [each.top(1)[0] for each in load_run(finished_run).predict([pictures / "0.png"])]
    programs = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(programs) == (2 if name == "saved_model" else 1)
    for program in programs:
        program = program.replace("picture.png", str(pictures / "0.png"))
        program += "\nimport sys\nassert 'cifar_models' not in sys.modules\n"
        if name != "saved_model":
            program += "assert 'tensorflow' not in sys.modules\n"
        result = subprocess.run(
            [sys.executable, "-I", "-c", program], cwd=folder, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        label, probability = result.stdout.splitlines()[-1].split()
        assert (label, float(probability)) == (
            expected[0][0],
            pytest.approx(expected[0][1], abs=0.02),
        )


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_of_a_model_card_reads_pictures_as_training_does(
    resize, channels, exports, finished_run, tmp_path
):
    card = read_card(exports["saved_model"])
    card = dataclasses.replace(card, image_shape=(8, 8, channels), resize=resize)
    text = model_card._markdown(card, SimpleNamespace(run=load_run(finished_run)))
    program = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[-1]
    lines = [line for line in program.splitlines() if line.startswith(("image =", "images ="))]
    rng = np.random.default_rng(0)
    path = tmp_path / "picture.png"
    Image.fromarray(rng.integers(0, 256, (13, 20, 4), np.uint8)).save(path)
    names = {"np": np, "Image": Image, "ImageOps": ImageOps}
    exec("\n".join(lines).replace("picture.png", str(path)), names)
    expected = read_image(path, 8, resize).pixels[np.newaxis]
    if channels == 1:
        expected = as_grey(expected)
    assert names["images"].shape == expected.shape
    assert abs(names["images"].astype(int) - expected).max() <= 1


@pytest.mark.skipif("onnx" not in INSTALLED, reason="needs the extra onnx")
def test_the_model_card_has_the_results_of_the_run(exports, finished_run):
    card = json.loads((exports["onnx"] / "model_card.json").read_text())
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert card["accuracy"] == metrics["accuracy"]
    from statsmodels.stats.proportion import proportion_confint

    correct = round(metrics["accuracy"] * 360)
    low, high = proportion_confint(correct, 360, method="wilson")
    assert card["accuracy_interval"] == [pytest.approx(low), pytest.approx(high)]
    assert card["agreement"] == 1 and card["largest_difference"] <= 1e-5
    assert card["class_names"] == list("0123456789")


def test_the_outputs_of_a_saved_model_have_the_batch_as_their_first_axis(exports):
    signatures = tf.saved_model.load(str(exports["saved_model"])).signatures
    images = tf.zeros((10, 8, 8, 1), tf.uint8)  # as many as classes
    outputs = signatures["serving_default"](images=images)
    assert {name: value.shape[0] for name, value in outputs.items()} == {
        "probabilities": 10,
        "label": 10,
    }
    best = outputs["probabilities"].numpy().argmax(axis=1)
    names = signatures["class_names"]()["class_names"].numpy()
    assert outputs["label"].numpy().tolist() == names[best].tolist()
    names_file = exports["saved_model"] / "assets.extra" / "class_names.json"
    assert json.loads(names_file.read_text()) == [name.decode() for name in names]


@pytest.mark.skipif("litert" not in INSTALLED, reason="needs the extra litert")
def test_a_saved_model_can_be_converted_to_litert(exports, finished_run):
    """Without variables of TensorFlow, the converter writes a file that answers NaN."""
    from ai_edge_litert.interpreter import Interpreter

    loaded = tf.saved_model.load(str(exports["saved_model"]))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    expected = loaded.signatures["serving_default"](images=tf.constant(images))
    for converter in (
        tf.lite.TFLiteConverter.from_saved_model(
            str(exports["saved_model"]), signature_keys=["serving_default"]
        ),
        tf.lite.TFLiteConverter.from_concrete_functions(
            [loaded.signatures["serving_default"]], loaded
        ),
    ):
        predict = Interpreter(model_content=converter.convert()).get_signature_runner()
        found = predict(images=images)["probabilities"]
        np.testing.assert_allclose(found, expected["probabilities"], atol=1e-6)


@pytest.mark.parametrize("name", [name for name in INSTALLED if name != "saved_model"])
def test_reduced_precisions_are_smaller_and_agree(name, exports, finished_run, tmp_path):
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("model.*"))

    reduced = [each for each in ("float16", "int8") if each in EXPORT_FORMATS[name].precisions]
    for precision in reduced:
        report = export(
            finished_run, tmp_path / precision, name, precision, check=ExportCheck(force=True)
        )
        assert report.agreement >= LEAST[precision] and report.largest_difference > 1e-6
    assert size(tmp_path / "float16") < size(exports[name])
    if name == "litert":  # the operations that onnxruntime adds are larger than this small network
        assert size(tmp_path / "int8") < size(tmp_path / "float16")


@pytest.mark.slow
def test_a_saved_model_in_bfloat16_computes_in_it(exports, finished_run, tmp_path):
    report = export(finished_run, tmp_path / "out", "saved_model", "bfloat16")
    assert 1e-5 < report.largest_difference < 0.05
    products = {}
    for name, path in (("float32", exports["saved_model"]), ("bfloat16", report.path)):
        graph = tf.saved_model.load(str(path)).signatures["serving_default"].graph.as_graph_def()
        nodes = [node for function in graph.library.function for node in function.node_def]
        products[name] = {
            tf.dtypes.as_dtype(node.attr["T"].type).name for node in nodes if node.op == "Conv2D"
        }
    assert products == {"float32": {"float32"}, "bfloat16": {"bfloat16"}}


@pytest.mark.skipif("litert" not in INSTALLED, reason="needs the extra litert")
def test_an_int8_export_that_disagrees_is_refused_unless_forced(
    finished_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(export_module, "MIN_AGREEMENT", 1.01)
    command = ["export", str(finished_run), "--format", "litert", "--precision", "int8"]
    out = tmp_path / "int8"
    assert main([*command, "--out", str(out)]) == 1
    assert "less than 101%; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*command, "--out", str(out), "--force"]) == 0
    assert (out / "model.tflite").is_file()


@pytest.mark.parametrize("name", INSTALLED)
def test_a_calibrated_export_divides_the_logits(name, exports, finished_run, pictures, tmp_path):
    folder = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    scaling = TemperatureScaling(
        temperature=2.0, validation_images=9, loss=0.5, expected_calibration_error=0.0123
    )
    metrics = dataclasses.replace(folder.read(RunMetrics), temperature_scaling=scaling)
    folder.write(metrics)
    options = ["--format", name, "--calibrated"]
    assert main(["export", str(folder.path), *options]) == 0
    (out,) = folder.path.glob("export*-calibrated")
    expected = np.stack(
        [each.probabilities for each in load_export(exports[name]).predict([pictures])]
    )
    expected = np.sqrt(expected) / np.sqrt(expected).sum(axis=1, keepdims=True)
    found = np.stack([each.probabilities for each in load_export(out).predict([pictures])])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    card = read_card(out)
    assert (card.temperature, card.expected_calibration_error) == (2.0, 0.0123)
    text = (out / "README.md").read_text()
    assert "| expected calibration error | 0.0123 |" in text and "divided by 2.000" in text


def test_a_run_without_a_temperature_cannot_be_exported_calibrated(finished_run, tmp_path, capsys):
    folder = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    folder.write(dataclasses.replace(folder.read(RunMetrics), temperature_scaling=None))
    error = refusal(capsys, "export", folder.path, "--calibrated")
    assert "has no temperature in metrics.json" in error and "validation_fraction=0.1" in error


def test_wrong_requests(finished_run, tmp_path, monkeypatch, capsys):
    error = refusal(capsys, "export", finished_run, "--precision", "int8")
    assert "--precision int8: saved_model can be float32, bfloat16; choose another" in error
    monkeypatch.setattr("cifar_models.serving.formats.find_spec", lambda package: None)
    error = refusal(capsys, "export", finished_run, "--format", "onnx")
    assert "needs onnxruntime, tf2onnx; install it: pip install '.[onnx]'" in error
    error = refusal(capsys, "predict", tmp_path, tmp_path)
    assert str(tmp_path) in error
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    for content in ("{", "{}", "[]", "1", "[" * 100_000):
        (tmp_path / "model_card.json").write_text(content)
        assert "model_card.json: cannot be read" in refusal(capsys, "predict", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_shape", [8, 8, 3], "or does not take the images of model_card.json"),
        ("image_shape", [65536, 65536, 3], "of memory, and"),
        ("class_names", ["a", "b"], "returns an array of shape (1, 10), and model_card.json says"),
        ("format", "core_ml", "format 'core_ml': must be one of saved_model"),
    ],
)
def test_a_card_that_does_not_fit_its_model(key, value, message, exports, tmp_path, capsys):
    folder = shutil.copytree(exports["saved_model"], tmp_path / "copy")
    card = json.loads((folder / "model_card.json").read_text())
    (folder / "model_card.json").write_text(json.dumps(card | {key: value}))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    assert message in refusal(capsys, "predict", folder, tmp_path / "red.png")


def test_half_an_export_is_refused(exports, tmp_path, capsys):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    for name, path in exports.items():
        folder = shutil.copytree(path, tmp_path / name)
        for file in (*folder.glob("model.*"), *folder.glob("*.pb")):
            if file.name != "model_card.json":
                file.write_bytes(file.read_bytes()[:100])
        error = refusal(capsys, "predict", folder, tmp_path / "red.png")
        assert "cannot be loaded" in error, name


def test_odd_class_names_in_cards(finished_run, tmp_path):
    """Names of classes and data sets are untrusted: markup, control characters, not UTF-8."""
    names = [
        "<b>bold</b>",
        "a|b",
        "[x](y)",
        "\x1b[31m",
        "\u732b",
        "\U0001f408",
        "a\nb: c",
        "\udce4",
    ]
    folder = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    info, metrics = folder.read(DatasetInfo), folder.read(RunMetrics)
    names += info.class_names[len(names) :]
    per_class = dict(zip(names, metrics.per_class.values(), strict=True))
    folder.write(dataclasses.replace(info, class_names=names, name="folder:/home/me/a\nb: |x"))
    folder.write(dataclasses.replace(metrics, per_class=per_class, recipe="x\n---\ny: z"))
    network = load_run(finished_run).load_network()
    job = ExportJob(load_run(folder.path), network, tmp_path, "float32", None)
    write_card(job, ExportReport(tmp_path, "onnx", "float32", 1.0, 0.0, 1.0, 256, "noise"))
    assert read_card(tmp_path).class_names == names
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "/home/me" not in text and "\x1b" not in text
    front, table = text.split("---\n", 2)[1:]
    assert all(re.fullmatch(r"[ -]*[a-z0-9_-]+(:( .*)?)?", line) for line in front.splitlines()), (
        front
    )
    rows = [line for line in table.splitlines() if line.count(" | 36 |")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), PRECISIONS)
@pytest.mark.parametrize("size", [8, 12], ids=["own size", "resized inside"])
@pytest.mark.parametrize("recipe", SMALL)
def test_every_family_format_and_precision(recipe, size, name, precision, tmp_path_factory):
    """A network that resizes its images inside must not train its batch norms in an export."""
    run = tmp_path_factory.getbasetemp() / f"{recipe}-{size}"
    if not run.exists():
        options = as_overrides(["training.epochs=3", f"model.image_size={size}", *SMALL[recipe]])
        options += ["--set", "model.patch_size=4"] if recipe == "digits-vit" else []
        assert main(["train", recipe, *options, "--run", str(run)]) == 0
    report = export(
        run, run / f"export-{name}-{precision}", name, precision, check=ExportCheck(force=True)
    )
    assert report.agreement >= LEAST[precision]
    assert precision != "float32" or report.largest_difference <= 1e-5
