"""No content of an untrusted file fills the memory, blocks or forges what is shown."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from rich.markdown import Markdown

import cifar_models
from cifar_models.cli.main import main
from cifar_models.comparison.figure_style import wrapped
from cifar_models.config.paths import as_argument
from cifar_models.config.recipe_file import read_recipe
from cifar_models.config.toml_file import MAX_DOTS, parse_toml, parse_value
from cifar_models.data.image_file import read_image
from cifar_models.data.load import load_dataset
from cifar_models.errors import RequestError
from cifar_models.runtime.subprocesses import run_command, run_python
from cifar_models.runtime.text import markdown_escaped, printable
from cifar_models.storage.atomic_files import locked
from cifar_models.storage.npz_files import decode_predictions
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.safe_open import find_files
from tests.conftest import refusal, write_noise_images
from tests.guarantees.test_untrusted import replace_members
from tests.synthetic_runs import make_predictions, make_robustness, make_run

CHECKOUT = Path(cifar_models.__file__).parents[1]
LABELS = np.arange(60) % 3


@pytest.fixture
def run(tmp_path) -> Path:
    """Return a finished run that was written without training."""
    probabilities = make_predictions(LABELS, 0.6, np.random.default_rng(0))
    return make_run(tmp_path / "run", "digits-cnn", probabilities, LABELS)


def change(run: Path, file: str, **values: object) -> None:
    """Change values in a JSON file of a run."""
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps({**content, **values}))


# A key of thousands of parts takes memory for the square of their number.
@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 40_000) + " = 1",
        f"[{' . '.join('a' * 40_000)}]",
        "x = {" + ".".join(['"a"'] * 40_000) + " = 1}",
        "x = 'a # b'\n" + ".".join("a" * 40_000) + " = '''",
        "x = 1" * 100_000,
    ],
    ids=["key", "table", "inline", "behind a string", "large"],
)
def test_a_file_that_would_take_gigabytes_to_parse_is_refused(text):
    with pytest.raises(RequestError, match="not a TOML file: "):
        parse_toml(text, Path("recipe.toml"))
    assert parse_value(text) == text


@pytest.mark.parametrize(
    "value", ['"' + "./" * 2000 + '"', f"'{'.' * 2000}'", f'"""{"." * 2000}"""', "1 # " + "." * 999]
)
def test_dots_in_strings_and_comments_are_allowed(value):
    parse_toml(f"x = {value}", Path("recipe.toml"))
    parse_toml(f"x = [{', '.join(['0.5'] * MAX_DOTS)}]", Path("recipe.toml"))


def test_a_study_of_millions_of_runs_is_refused(tmp_path, capsys):
    numbers = ",".join(map(str, range(5_000)))
    fractions = ",\n".join(f"0.{number:05}" for number in range(1, 5_000))
    text = f'recipes = ["digits-cnn"]\nseeds = [{numbers}]\ntrain_fractions = [{fractions}]\n'
    (tmp_path / "study.toml").write_text(text)
    error = refusal(capsys, "study", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert "24,995,000 runs, more than 1,000" in error


def write_study(folder: Path, dataset: str = "digits") -> Path:
    (folder / "study.toml").write_text(
        f'recipes = ["digits-cnn"]\nseeds = [0]\ndatasets = ["{dataset}"]\n'
    )
    return folder / "study.toml"


@pytest.mark.parametrize("name", ["digits", "digits/runs", "digits/comparison"])
def test_a_study_writes_into_no_linked_folder(name, tmp_path, capsys):
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(mine)
    error = refusal(capsys, "study", write_study(tmp_path), "--out", out)
    assert f"{out / name}: is a link" in error and not list(mine.iterdir())


def test_a_study_has_no_folder_outside_its_own(tmp_path, capsys):
    refusal(capsys, "study", write_study(tmp_path, ".."), "--out", tmp_path / "out")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out").exists()


METRICS = [
    {"loss": float("nan")},
    {"loss": float("inf")},
    {"train_seconds": 1e308},
    {"parameters": 10**4000},
    {"parameters": -5},
    {"accuracy": 5.0},
    {"per_class": {}},
    {"split": "other"},
    {"recipe": "a" * 9_000_000},
]


@pytest.mark.parametrize("values", METRICS, ids=lambda values: str(values)[:40])
def test_impossible_metrics_are_refused(values, run, tmp_path, capsys):
    change(run, "metrics.json", **values)
    error = refusal(capsys, "compare", run, "--out", tmp_path / "out")
    assert "metrics.json" in error and len(error) < 1000


DATASETS = [
    {"class_names": []},
    {"class_names": ["x" * 9_000_000, "b", "c"]},
    {"test_images": 0},
    {"train_images": -5},
    {"image_shape": [10**9, 8, 1]},
    {"image_shape": [0, 8, 1]},
]


@pytest.mark.parametrize("values", DATASETS, ids=lambda values: str(values)[:40])
def test_impossible_descriptions_of_data_are_refused(values, run, tmp_path, capsys):
    change(run, "dataset.json", **values)
    error = refusal(capsys, "compare", run, "--out", tmp_path / "out")
    assert "dataset.json: cannot be read" in error and len(error) < 1000


@pytest.mark.parametrize("name", ["noise", "bins"])
def test_histograms_that_do_not_fit_are_refused(name, run, tmp_path, capsys):
    RunFolder(run).write(make_robustness(0.5))
    change(run, "robustness.json", entropy={"test": [1], "noise": [1], "shuffled": [1], name: []})
    error = refusal(capsys, "compare", run, "--out", tmp_path / "out")
    assert "robustness.json: cannot be read" in error


@pytest.mark.parametrize(
    "text",
    ["", "epoch,seconds\n", "seconds,validation_accuracy\n1,inf\n", "seconds\n1e308\n1e308\n"],
)
def test_an_odd_history_is_refused(text, run, tmp_path, capsys):
    (run / "history.csv").write_text(text)
    error = refusal(capsys, "compare", run, "--out", tmp_path / "out")
    assert "history.csv: cannot be read" in error


@pytest.mark.parametrize("recipe", [[], {"model.architecture": ["x"]}])
def test_odd_fingerprints_are_refused(recipe, run, capsys):
    (run / "metrics.json").unlink()
    change(run, "fingerprints.json", recipe=recipe)
    assert "fingerprints.json: cannot be read" in refusal(capsys, "resume", run)


def test_a_comparison_of_many_classes_stays_small(tmp_path, capsys):
    """A confusion matrix of all of them would take 29 GB."""
    names = [str(number) for number in range(60_000)]
    probabilities = np.full((1, len(names)), 0.5, np.float16)
    scores = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 1}
    labels = np.zeros(60, int)
    few = make_predictions(labels, 0.6, np.random.default_rng(0))
    run = make_run(tmp_path / "run", "digits-cnn", few, labels)
    change(run, "dataset.json", class_names=names, test_images=1)
    change(run, "metrics.json", per_class=dict.fromkeys(names, scores))
    RunFolder(run).write_predictions(np.zeros(1, int), probabilities, ("a",))
    assert main(["compare", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "and 59,989 more classes" in capsys.readouterr().out
    assert "The figures show the 100 of 60,000" in (tmp_path / "out/report.html").read_text()


def test_a_model_file_larger_than_the_network_is_not_opened(run_copy, capsys):
    """Its table of contents would be as large as the file, which takes no space on the disk."""
    with (run_copy / "model.keras").open("wb") as file:
        size = 10**12
        file.truncate(size)
        file.seek(size)
        file.write(b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 1, 1, size - 9, 9))
        file.write(b"PK\6\7" + struct.pack("<LQL", 0, size, 1))
        file.write(b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0))
    assert "has 1000000000098 bytes, more than" in refusal(capsys, "evaluate", run_copy)


def test_deeply_nested_weights_are_refused(run_copy, capsys):
    """HDF5's own search of them would end the process by a stack overflow."""
    content = io.BytesIO()
    with h5py.File(content, "w", libver="latest") as file:
        group = file.id
        for _ in range(60_000):
            group = h5py.h5g.create(group, b"g")
    padded = content.getvalue() + bytes(100_000)
    replace_members(run_copy / "model.keras", {"model.weights.h5": padded})
    assert "its groups are nested too deeply" in refusal(capsys, "evaluate", run_copy)


def test_a_header_that_is_no_python_is_refused():
    """NumPy passes it to Python's tokenizer, which has an error of its own."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        text = b"{'descr': (((\n"
        archive.writestr("labels.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)
    with pytest.raises(ValueError):
        decode_predictions(content.getvalue(), {60}, 3)


def test_only_own_checkpoints_and_partial_files_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    folder.make_subfolders()
    mine = [
        "checkpoints/step-9999999999.safetensors",  # of no use, and newer than every checkpoint
        "checkpoints/step-9999999998.safetensors",
        "checkpoints/step-best.safetensors",
        "checkpoints/step-00.safetensors",
        ".partial-download",
        "notes/.partial-metrics.json",
    ]
    (tmp_path / "notes").mkdir()
    (tmp_path / "checkpoints" / "step-0000000001.safetensors").mkdir()
    for name in mine:
        (tmp_path / name).write_text("precious")
    (tmp_path / ".partial-metrics.json").touch()
    (tmp_path / "checkpoints" / ".partial-step-0000000004.safetensors").touch()
    for step in (3, 4, 5):
        folder.write_checkpoint(step, b"state")
    folder.remove_partial_files()
    assert all((tmp_path / name).read_text() == "precious" for name in mine)
    own = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {
        Path(name).name for name in mine
    }
    assert own == {f"step-{step:010}.safetensors" for step in (4, 5)}


def test_a_lock_file_of_somebody_else_keeps_its_content(tmp_path):
    (tmp_path / ".lock").write_text("precious")
    with pytest.raises(RequestError, match="is no lock of this tool"), locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "precious"
    (tmp_path / ".lock").write_text("12345\n")
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_search_does_not_replace_a_file_of_somebody_else(tmp_path, capsys):
    (tmp_path / "trials").mkdir()
    (tmp_path / "best.toml").write_text("precious")
    error = refusal(capsys, "tune", "digits-cnn", "--trials", "1", "--out", tmp_path)
    assert "best.toml: is not of a search" in error
    assert (tmp_path / "best.toml").read_text() == "precious"
    assert not list((tmp_path / "trials").iterdir())


def test_deeply_nested_folders_end_no_search_for_runs(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").touch()
    monkeypatch.chdir(tmp_path)
    for _ in range(1050):  # more than the recursions that Python allows
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    assert find_files(tmp_path, "metrics.json") == [tmp_path / "run" / "metrics.json"]
    monkeypatch.chdir(tmp_path)
    subprocess.run(["rm", "-r", "d"], check=True)  # Python's own function is recursive


def test_an_image_file_of_terabytes_is_not_read(tmp_path):
    """The decoder of WebP reads the whole file first."""
    write_noise_images(tmp_path, ["cat", "dog"], 6)
    path = tmp_path / "cat" / "x.webp"
    Image.new("RGB", (8, 8)).save(path)
    os.truncate(path, 10**12)
    with pytest.raises(ValueError, match="1,000,000,000,000 bytes, more than"):
        read_image(path, 8, "crop")


def test_any_error_of_a_decoder_names_the_file(tmp_path, monkeypatch):
    """Fuzzed EXIF data ended in struct.error."""

    def fail(*arguments: object) -> None:
        raise struct.error("required argument is not an integer")

    folder = write_noise_images(tmp_path, ["cat", "dog"], 6)
    monkeypatch.setattr("cifar_models.data.image_file._as_rgb", fail)
    with pytest.raises(RequestError, match=r"0\.png: required argument is not an integer"):
        load_dataset(read_recipe("digits-cnn", [f"data.dataset='folder:{folder}'"]))


@pytest.mark.parametrize(
    "text",
    [
        r"\<img src=x onerror=alert(1)>",
        r"\\<img src=x>",
        "<script>",
        "[a](http://b)",
        r"[a]\(http://b)",
        "![a](b)",
        "`code`",
        "*emphasis*",
        "~~gone~~",
        r"back\slash",
    ],
)
def test_escaped_text_holds_no_markup(text):
    """The truth is what a Markdown parser, which rich brings, makes of it."""
    tokens = Markdown(f"- {markdown_escaped(text)} was trained once").parsed
    inline = next(token for token in tokens if token.type == "inline").children
    assert {token.type for token in inline} <= {"text", "text_special"}
    assert "".join(token.content for token in inline) == f"{text} was trained once"


@pytest.mark.parametrize("text", ["http://a.example", "https://a", "www.a.example", "me@a.example"])
def test_escaped_text_holds_no_address_that_github_would_link(text):
    assert text not in markdown_escaped(text)


def test_a_text_of_megabytes_is_cut():
    assert len(printable("a" * 10_000_000)) == 10_000


def test_a_report_escapes_characters_that_change_the_direction(run, tmp_path):
    change(run, "dataset.json", name="pets\u202eevil\x1b")
    assert main(["compare", str(run), "--out", str(tmp_path / "out")]) == 0
    html = (tmp_path / "out" / "report.html").read_text()
    assert r"pets\u202eevil\x1b" in html and "\u202e" not in html and "\x1b" not in html


def test_a_legend_leaves_out_no_model():
    assert not wrapped("_hidden").startswith("_")


def test_no_module_of_the_working_directory_is_imported(run, monkeypatch):
    """An untrusted folder may hold a file with the name of a module."""
    for module in ("numpy", "rich", "msgspec", "keras"):
        (run / f"{module}.py").write_text("raise SystemExit('code of a stranger')")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    arguments = ["list", "runs", "--under", "."]
    command = [sys.executable, "-m", "cifar_models", *arguments]
    result = subprocess.run(command, cwd=run, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "digits-cnn" in result.stdout, result.stderr
    monkeypatch.chdir(run)
    run_command(arguments, "failed")
    assert "digits-cnn" in run_python(["-m", "cifar_models", *arguments], "failed")


@pytest.mark.slow
def test_settings_of_the_working_directory_change_no_figure(run, tmp_path, monkeypatch):
    """Matplotlib reads matplotlibrc there, which might pass the names of classes to LaTeX."""
    (run / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    figures = []
    for folder in (run, tmp_path):
        out = tmp_path / f"out-{folder.name}"
        monkeypatch.chdir(folder)
        run_command(["compare", str(run), "--out", str(out)], "failed")
        figures.append((out / "figures" / "accuracies.svg").read_text())
    assert figures[0] == figures[1]


def test_closed_streams_are_opened_before_a_file_gets_their_number(tmp_path):
    program = "import os; print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file=out)"
    code = (
        "import os, sys; from cifar_models import __main__ as m; m._open_standard_streams(); "
        f"out = open({str(tmp_path / 'out')!r}, 'w'); {program}"
    )
    command = ["bash", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    assert (tmp_path / "out").read_text().split() == ["/dev/null"] * 3


@pytest.mark.slow
def test_settings_of_keras_do_not_change_a_run(tmp_path):
    (tmp_path / ".keras").mkdir()
    settings = {"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}
    (tmp_path / ".keras/keras.json").write_text(json.dumps({**settings, "backend": "jax"}))
    program = (
        "from cifar_models.runtime.quiet_tensorflow import import_tensorflow as i; i(); "
        "import keras; c = keras.config; "
        "print(c.backend(), c.floatx(), c.epsilon(), c.image_data_format())"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path)}
    environment |= {"KERAS_BACKEND": "torch"}
    environment.pop("KERAS_HOME", None)
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.stdout.split() == ["tensorflow", "float32", "1e-07", "channels_last"]


def test_a_path_like_an_option_is_no_option(tmp_path, monkeypatch):
    assert as_argument("-x/run") == "./-x/run" and as_argument("x/-run") == "x/-run"
    assert RunFolder(Path("-x")).resume_command().endswith("resume ./-x")


def test_a_removed_working_directory_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    error = refusal(capsys, "train", "digits-cnn", "--data-dir", "tfds", "--run", tmp_path / "run")
    assert "the working directory has been removed" in error


def test_any_error_of_a_model_file_names_it(run_copy, capsys, monkeypatch):
    """Fuzzed files ended in OverflowError."""

    def fail(*arguments: object) -> None:
        raise OverflowError("int too large")

    monkeypatch.setattr("zipfile.ZipFile.read", fail)
    error = refusal(capsys, "evaluate", run_copy)
    assert f"{run_copy / 'model.keras'}: damaged or no model file: int too large" in error
