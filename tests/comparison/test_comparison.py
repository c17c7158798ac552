"""Comparisons of runs with known predictions: conclusions, refusals and caveats."""

import base64
import csv
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from cifar_models.cli.main import main
from cifar_models.comparison import report as report_module
from cifar_models.comparison.compare_runs import compare
from cifar_models.comparison.comparison import Pair, analyze
from cifar_models.comparison.figure_style import colour_of
from cifar_models.comparison.figures import differing_costs, pareto_front
from cifar_models.comparison.learning_curves import LearningCurve, Point, crossings
from cifar_models.comparison.runs import by_recipe, read_runs
from cifar_models.comparison.significance import Interval, compare_models
from cifar_models.storage.cost_records import RuntimeCosts
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import as_overrides, refusal
from tests.synthetic_runs import (
    make_cost,
    make_predictions,
    make_robustness,
    make_run,
    make_runtime_cost,
)

IMAGES = 900


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(IMAGES) % 3


def make_models(root: Path, labels: np.ndarray, **accuracies: float) -> list[Path]:
    """Make three seeds of each digits recipe. A keyword is a recipe's name and its accuracy."""
    rng, paths = np.random.default_rng(0), []
    for name, accuracy in accuracies.items():
        for seed in range(3):
            probabilities = make_predictions(labels, accuracy, rng)
            overrides = (f"runtime.seed={seed}",)
            path = root / f"{name}-{seed}"
            paths.append(make_run(path, f"digits-{name}", probabilities, labels, overrides))
    return paths


def change_metrics(run: Path, **values: float) -> None:
    """Change values in metrics.json."""
    path = run / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_large_difference_is_found_and_a_small_one_is_not_claimed(tmp_path, labels):
    result = analyze(read_runs(make_models(tmp_path, labels, cnn=0.80, vit=0.92, hybrid=0.80)))
    assert result.models[0].name == "digits-vit"
    assert len(result.pairs) == 3
    sentences = {frozenset((pair.better, pair.worse)): pair.describe() for pair in result.pairs}
    found = sentences[frozenset(("digits-vit", "digits-cnn"))]
    assert re.match(
        r"digits-vit is better than digits-cnn by 1[0-4]\.\d percentage points \[", found
    )
    assert sentences[frozenset(("digits-cnn", "digits-hybrid"))].startswith(
        "These runs cannot tell"
    )
    for pair in result.pairs:
        assert pair.p_value >= pair.difference.p_value  # adjusted
        assert pair.is_significant() == ("digits-vit" in (pair.better, pair.worse))


def test_a_conclusion_says_no_more_than_its_test():
    rng = np.random.default_rng(0)
    correct = rng.random((6, 400)) < [[0.95]] * 3 + [[0.8]] * 3
    (recipes,) = compare_models([correct[:3], correct[3:]])
    assert recipes.p_value < 0.05
    assert Pair("b", "a", recipes, recipes.p_value).describe().startswith("b is better than a by ")
    adjusted = Pair("b", "a", recipes, 0.2, num_pairs=6).describe()
    assert "significant for a single pair, but not after adjustment for 6 pairs" in adjusted


@pytest.mark.parametrize(
    ("runs", "single"), [((1, 1), "both have"), ((1, 3), "b has"), ((3, 1), "a has")]
)
def test_a_single_run_gives_no_verdict_on_recipes(runs, single):
    rng = np.random.default_rng(0)
    good, bad = (rng.random((n, 400)) < level for n, level in zip(runs, (0.95, 0.8), strict=True))
    (networks,) = compare_models([good, bad])
    start = f"No verdict on b and a, because {single} only one run"
    found = Pair("b", "a", networks, networks.p_value).describe()
    assert found.startswith(f"{start}; of the trained networks, that of b is more accurate by ")
    assert "McNemar's test, p = " in found and found.endswith("in each pair of runs.") == (
        max(runs) > 1
    )
    equal = Pair("b", "a", networks, 1.0).describe()
    assert equal.startswith(f"{start}, and the test images cannot tell the trained networks apart")
    assert "better than" not in found + equal


def test_the_numbers_are_those_of_the_predictions(tmp_path, labels):
    paths = make_models(tmp_path, labels, cnn=0.8)
    model = analyze(read_runs(paths)).models[0]
    by_hand, correct = [], []
    for path in paths:
        with np.load(path / "predictions.npz") as content:
            correct.append(content["probabilities"].argmax(1) == content["labels"])
            by_hand.append(correct[-1].mean())
    assert model.accuracy.mean == pytest.approx(np.mean(by_hand))
    chance = np.var(correct, axis=0, ddof=1).mean() / len(labels)  # larger than that of by_hand
    half = 4.302652729911275 * np.sqrt(chance / 3)  # Student, 2 degrees
    assert model.accuracy.high == pytest.approx(np.mean(by_hand) + half)
    assert model.class_recall().mean() == pytest.approx(model.interval("recall_macro").mean)


def test_a_folder_is_read_as_all_runs_in_it(tmp_path, labels):
    paths = make_models(tmp_path / "study", labels, cnn=0.8)
    assert [run.path for run in read_runs([tmp_path / "study", paths[0]])] == sorted(paths)


def test_one_recipe_with_two_settings_is_two_models(tmp_path, labels):
    rng = np.random.default_rng(0)
    for epochs in (5, 9):
        make_run(
            tmp_path / str(epochs), "digits-cnn", make_predictions(labels, 0.8, rng), labels,
            (f"training.epochs={epochs}",),
        )  # fmt: skip
    names = {model.name for model in analyze(read_runs([tmp_path])).models}
    assert names == {"digits-cnn (training.epochs=5)", "digits-cnn (training.epochs=9)"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["cat", "eel", "dog"]}, "has classes ['cat', 'eel', 'dog']"),
        ({"sha256": "1" * 64}, "has data (SHA-256) 1111"),
    ],
)
def test_other_data_is_refused(change, message, tmp_path, labels, capsys):
    rng = np.random.default_rng(0)
    one = make_run(tmp_path / "one", "digits-cnn", make_predictions(labels, 0.8, rng), labels)
    other = make_run(
        tmp_path / "other", "digits-vit", make_predictions(labels, 0.8, rng), labels, dataset=change
    )
    error = refusal(capsys, "compare", one, other, "--out", tmp_path / "out")
    assert f"{other}: {message}" in error and str(one) in error
    assert not (tmp_path / "out").exists()


def test_other_images_another_split_and_the_same_seed_are_refused(tmp_path, labels, capsys):
    rng = np.random.default_rng(0)
    one = make_run(tmp_path / "one", "digits-cnn", make_predictions(labels, 0.8, rng), labels)
    images = make_run(
        tmp_path / "images", "digits-vit", make_predictions(labels, 0.8, rng), labels[::-1]
    )
    trial = make_run(
        tmp_path / "trial", "digits-vit", make_predictions(labels, 0.8, rng), labels,
        metrics={"split": "validation"},
    )  # fmt: skip
    again = make_run(tmp_path / "again", "digits-cnn", make_predictions(labels, 0.8, rng), labels)
    for other, message in (
        (images, "was evaluated on other images"),
        (trial, "was evaluated on the validation split"),
        (again, "has the same recipe and seed (0)"),
    ):
        assert message in refusal(capsys, "compare", one, other, "--out", tmp_path / "out")


def test_missing_or_invalid_predictions_are_refused(tmp_path, labels, capsys):
    rng = np.random.default_rng(0)
    run = make_run(tmp_path / "run", "digits-cnn", make_predictions(labels, 0.8, rng), labels)
    folder, out = RunFolder(run), tmp_path / "out"
    bad = make_predictions(labels, 0.8, rng)
    bad[17, 1] = np.nan
    folder.write_predictions(labels, bad, ("cat", "dog", "eel"))
    error = refusal(capsys, "compare", run, "--out", out)
    assert f"{run / 'predictions.npz'}: row 17 holds a probability that is not finite" in error
    outside = labels.copy()
    outside[5] = 3
    folder.write_predictions(outside, make_predictions(labels, 0.8, rng), ("cat", "dog", "eel"))
    assert "row 5 has label 3, outside the 3 classes" in refusal(
        capsys, "compare", run, "--out", out
    )
    folder.write_predictions(labels, make_predictions(labels, 0.8, rng)[:, :2], ("cat", "dog"))
    error = refusal(capsys, "compare", run, "--out", out)
    assert f"probabilities ({IMAGES}, 2) for 30 or {IMAGES} images and 3 classes" in error
    (run / "predictions.npz").unlink()
    error = refusal(capsys, "compare", run, "--out", out)
    assert f"write it: python -m cifar_models evaluate {run}" in error
    assert "holds no finished run" in refusal(capsys, "compare", tmp_path / "no", "--out", out)


def test_evaluate_writes_missing_predictions(run_copy):
    run = run_copy
    before = (run / "predictions.npz").read_bytes()
    (run / "predictions.npz").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert (run / "predictions.npz").read_bytes() == before


def test_caveats_of_one_model_and_of_different_settings(tmp_path, labels):
    rng = np.random.default_rng(0)
    confident = make_predictions(labels, 0.6, rng, confidence=0.99)
    never = make_predictions(labels, 0.7, rng)
    never[:, 2] = 0
    make_run(tmp_path / "a", "digits-cnn", confident, labels, metrics={"steps": 100})
    make_run(
        tmp_path / "b", "digits-vit", never / never.sum(1, keepdims=True), labels,
        ("model.image_size=16",), metrics={"steps": 300, "precision": "mixed_bfloat16"},
    )  # fmt: skip
    text = " ".join(analyze(read_runs([tmp_path])).caveats)
    for expected in (
        "digits-cnn was trained once",
        "digits-cnn is overconfident: its mean confidence is 99.0% and its accuracy is ",
        "digits-vit never predicts eel.",
        "the number of processed training images of digits-vit is 3.0 times that of digits-cnn",
        "differ in the input resolution in pixels (",
        "differ in precision (",
    ):
        assert expected in text, expected
    assert "number of runs" not in text and "device" not in text


def test_runs_of_one_model_in_different_precisions_are_a_caveat(tmp_path, labels):
    rng = np.random.default_rng(0)
    for seed, precision in enumerate(("float32", "mixed_bfloat16")):
        make_run(
            tmp_path / str(seed), "digits-cnn", make_predictions(labels, 0.8, rng), labels,
            (f"runtime.seed={seed}",), metrics={"precision": precision},
        )  # fmt: skip
    (sentence,) = (x for x in analyze(read_runs([tmp_path])).caveats if "precision" in x)
    assert sentence == (
        "The runs of each model differ in precision (digits-cnn: float32 and mixed_bfloat16)."
    )


def test_caveats_on_the_choice_of_settings(tmp_path, labels):
    rng = np.random.default_rng(0)
    seen = {"test_images_in_train": 7}
    for name, recipe, overrides in (
        ("a", "digits-cnn", ("training.tuning_trials=20",)),
        ("b", "digits-cnn", ("training.peak_learning_rate=0.5",)),
        ("c", "digits-vit", ()),
    ):
        make_run(
            tmp_path / name, recipe, make_predictions(labels, 0.8, rng), labels, overrides, seen
        )
    text = " ".join(analyze(read_runs([tmp_path])).caveats)
    assert f"7 of the {len(labels)} test images are also training images, so" in text
    assert "are residual_cnn with different settings. Choosing the best" in text
    assert "are vit with" not in text
    assert "differ in the number of trials of the search that chose their settings" in text
    assert "digits-vit: 0" in text and ": 20" in text


def test_equal_conditions_have_no_caveats(tmp_path, labels):
    assert analyze(read_runs(make_models(tmp_path, labels, cnn=0.8, vit=0.8))).caveats == ()


def test_cost_and_robustness_are_in_the_table(tmp_path, labels):
    paths = make_models(tmp_path, labels, cnn=0.8)
    RunFolder(paths[0]).write(make_cost())
    for number, path in enumerate(paths):
        RunFolder(path).write(make_robustness(0.5 + number / 10))
    assert main(["compare", *map(str, paths), "--out", str(tmp_path / "out")]) == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Robustness</h2>" in report and "1,200 test images" in report
    model = analyze(read_runs(paths)).models[0]
    assert model.interval("latency_1_p95").mean == 2.5
    assert model.interval("peak_memory_megabytes").mean == 400
    assert model.interval("mean_corrupted_accuracy").mean == pytest.approx(0.6)


def test_runtimes_are_on_the_page_and_in_a_file(tmp_path, labels):
    paths = make_models(tmp_path / "runs", labels, cnn=0.8, vit=0.9)
    keras, onnx = make_runtime_cost(1.5, accuracy=0.8), make_runtime_cost(0.5, accuracy=None)
    for path in paths[:2]:  # two runs of the CNN
        RunFolder(path).write(RuntimeCosts(runtimes={"keras": keras}))
    slower = make_runtime_cost(2.5, accuracy=0.9)
    RunFolder(paths[2]).write(RuntimeCosts(runtimes={"keras": slower, "onnx": onnx}))
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "runs"), "--out", str(out)]) == 0
    with (out / "runtimes.csv").open() as file:
        rows = {(row["model"], row["runtime"]): row for row in csv.DictReader(file)}
    assert set(rows) == {("digits-cnn", "keras"), ("digits-cnn", "onnx")}
    row = rows["digits-cnn", "keras"]
    assert float(row["latency_1_p50"]) == pytest.approx((1.5 + 1.5 + 2.5) / 3)
    assert float(row["accuracy"]) == pytest.approx(100 * (0.8 + 0.8 + 0.9) / 3)
    assert (row["runs"], rows["digits-cnn", "onnx"]["runs"]) == ("3", "1")
    assert rows["digits-cnn", "onnx"]["accuracy"] == ""
    report = (out / "report.html").read_text()
    assert "<h2>Runtimes</h2>" in report and "<td>1.83</td>" in report
    assert "| digits-cnn | onnx | 1 | 0.50 |" in (out / "comparison.md").read_text()


def test_an_interrupted_report_can_be_written_again(tmp_path, labels, monkeypatch):
    make_models(tmp_path / "runs", labels, cnn=0.8)
    command = ["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(report_module, "obey_stop", stop_after(3))
        with pytest.raises(KeyboardInterrupt):
            compare([tmp_path / "runs"], tmp_path / "out")
    assert 0 < len(list((tmp_path / "out").rglob("*.*"))) < 8
    assert main(command) == 0


def stop_after(calls: int):
    """Return a function that raises KeyboardInterrupt when it is called more often."""
    counter = itertools.count(1)

    def obey_stop() -> None:
        if next(counter) > calls:
            raise KeyboardInterrupt

    return obey_stop


def test_trials_are_reported_on_their_validation_split(tmp_path, labels):
    rng = np.random.default_rng(0)
    for name, recipe in (("one", "digits-cnn"), ("two", "digits-vit")):
        make_run(
            tmp_path / name, recipe, make_predictions(labels, 0.8, rng), labels, (),
            dataset={"validation_images": len(labels), "test_images": 7},
            metrics={"split": "validation"},
        )  # fmt: skip
    compare([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"{len(labels):,} validation images" in " ".join(report.split())
    assert "Validation accuracy" in report and "test accuracy" not in report.lower()
    assert "means choosing on the test split" not in report


def test_untrusted_names_of_runtimes_are_escaped(tmp_path, labels):
    (path, *_) = make_models(tmp_path / "runs", labels, cnn=0.8)
    name = "onnx\u202e<b>\ud800"
    RunFolder(path).write(RuntimeCosts(runtimes={name: make_runtime_cost(1.0, None)}))
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert "\u202e" not in report and "<b>" not in report


def test_a_metric_is_averaged_over_the_runs_that_have_it(tmp_path, labels):
    paths = make_models(tmp_path, labels, cnn=0.8)
    model = analyze(read_runs(paths)).models[0]
    assert model.interval("mean_corrupted_accuracy") is None
    assert model.interval("model_megabytes") is None
    for path, accuracy in zip(paths, (0.5, 0.7), strict=False):
        RunFolder(path).write(make_robustness(accuracy))
    measured = analyze(read_runs(paths)).models[0].interval("mean_corrupted_accuracy")
    assert (measured.mean, measured.count) == (pytest.approx(0.6), 2)


def test_comparing_runs_does_not_import_tensorflow(tmp_path, labels):
    make_models(tmp_path / "runs", labels, cnn=0.8, vit=0.9)
    code = (
        "import sys; from cifar_models.cli.main import main; "
        "assert main(sys.argv[1:]) == 0; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = ["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_dollar_signs_in_class_names_do_not_break_a_figure(tmp_path, labels):
    """Matplotlib would read the text between two dollar signs as a formula."""
    rng, names = np.random.default_rng(0), ["from_$10_to_$20", "from_$20_to_$50", "more"]
    for recipe in ("digits-cnn", "digits-vit"):
        for fraction in (0.1, 1.0):
            path = make_run(
                tmp_path / "runs" / f"{recipe}-{fraction}",
                recipe,
                make_predictions(labels, 0.8, rng),
                labels,
                (f"data.train_fraction={fraction}",),
                dataset={"class_names": names, "train_images": round(3000 * fraction)},
            )
            RunFolder(path).write(make_robustness(0.5))
            RunFolder(path).write(make_cost())
            change_metrics(path, flops_per_image=10**6 if recipe == "digits-cnn" else 2 * 10**6)
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    figures = {path.stem: path.read_text() for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert len(figures) == 9
    for name in ("classes", "confusions"):
        assert all(f">{class_name}</text>" in figures[name] for class_name in names), name
    texts = " ".join(re.findall(r"<text[^>]*>([^<]*)", " ".join(figures.values())))
    assert "mathdefault" not in texts  # a logarithmic axis must not show the source of a formula
    assert ">1k</text>" in figures["learning_curves"]


def test_no_point_beats_the_pareto_front():
    points = [(1.0, 80.0), (2.0, 79.0), (2.0, 85.0), (3.0, 85.0), (4.0, 90.0)]
    assert pareto_front(points) == [(1.0, 80.0), (2.0, 85.0), (4.0, 90.0)]


@pytest.fixture
def report(tmp_path, labels, capsys) -> Path:
    paths = make_models(tmp_path / "runs", labels, cnn=0.80, vit=0.86, hybrid=0.92)
    RunFolder(paths[3]).write(make_cost())  # of the ViT only
    for path in paths[:3]:
        change_metrics(path, flops_per_image=2 * 10**6)
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert "digits-hybrid is better than digits-cnn by" in capsys.readouterr().out
    return out / "report.html"


def test_the_report_is_one_file_and_says_how_to_reproduce_it(report, tmp_path):
    text = report.read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert text.count("<svg") == 6
    assert f"compare {tmp_path / 'runs'} --out {tmp_path / 'out'}" in text
    assert {path.stem for path in (report.parent / "figures").iterdir()} == {
        "accuracies",
        "training",
        "pareto",
        "reliability",
        "confusions",
        "classes",
    }


def test_figures_that_would_show_nothing_are_left_out(tmp_path, labels, capsys):
    """Runs without a validation split have no such curve, and equal costs say nothing."""
    paths = make_models(tmp_path / "runs", labels, cnn=0.80, vit=0.86)
    for path in paths:
        (path / "history.csv").write_text("epoch,seconds,train_loss\n1,2.0,0.5\n")
    assert differing_costs(analyze(read_runs(paths))) == {}
    for number, path in enumerate(paths):
        # 601 and 604 s on average
        flops = 1000 if number < 3 else 2000
        change_metrics(path, train_seconds=600.0 + number, flops_per_image=flops)
    costs = differing_costs(analyze(read_runs(paths)))
    assert costs == {"FLOPs/image": [2000.0, 1000.0]}  # the better model first
    command = ["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    older = tmp_path / "out" / "figures" / "training.svg"
    older.write_text("of an older report")
    assert main(command) == 0
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"accuracies", "pareto", "reliability", "confusions", "classes"}
    assert "Each line is a run" not in (tmp_path / "out" / "report.html").read_text()


def test_the_table_is_also_written_as_csv_and_markdown(report):
    with (report.parent / "comparison.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"digits-cnn", "digits-vit", "digits-hybrid"}
    row = rows["digits-hybrid"]
    assert float(row["accuracy_low"]) < float(row["accuracy"]) < float(row["accuracy_high"])
    assert float(row["accuracy"]) == pytest.approx(0.92, abs=0.02)
    text = (report.parent / "comparison.md").read_text()
    assert text.splitlines()[2].startswith("| digits-hybrid | 3 | ")
    assert "## Conclusions" in text
    header, best = (text.splitlines()[number].split(" | ") for number in (0, 2))
    cells = dict(zip(header, best, strict=True))
    assert cells["accuracy"].startswith(f"{100 * float(row['accuracy']):.2f} %")
    assert cells["parameters"] == "1,000"
    assert "corrupted accuracy" not in text  # it was not measured


@pytest.mark.parametrize(("counts", "is_skewed"), [((60, 60, 60), False), ((170, 8, 12), True)])
def test_balanced_accuracy_and_macro_f1_lead_if_classes_are_skewed(counts, is_skewed, tmp_path):
    skewed, rng = np.repeat([0, 1, 2], counts), np.random.default_rng(0)
    predictions = [make_predictions(skewed, accuracy, rng) for accuracy in (0.7, 0.9)]
    runs = [
        make_run(tmp_path / name, name, each, skewed)
        for name, each in zip(("digits-cnn", "digits-vit"), predictions, strict=True)
    ]
    compare(runs, tmp_path / "out")
    header, _, best = (tmp_path / "out" / "comparison.md").read_text().splitlines()[:3]
    titles = header.strip("| ").split(" | ")[2:]
    assert (titles[:2] == ["balanced accuracy", "macro F1"]) == is_skewed
    assert titles.count("accuracy") == 1
    # scikit-learn's own balanced accuracy
    expected = balanced_accuracy_score(skewed, predictions[1].argmax(axis=1))
    cells = dict(zip(titles, best.strip("| ").split(" | ")[2:], strict=True))
    title = "balanced accuracy" if is_skewed else "recall"
    assert cells[title] == f"{100 * expected:.2f} %"


def test_markup_in_names_is_escaped(tmp_path, labels):
    rng = np.random.default_rng(0)
    names = ["<script>alert(1)</script>", "dog", "eel"]
    make_run(
        tmp_path / "a", "digits-cnn", make_predictions(labels, 0.8, rng), labels,
        dataset={"class_names": names, "name": "<b>pets</b>"},
    )  # fmt: skip
    assert main(["compare", str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in text and "<b>pets" not in text


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLICKS = """<script>
const errors = []; window.onerror = message => errors.push(message);
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)];
  const names = () => all("#models tbody tr").map(row => row.cells[0].innerText);
  const buttons = all("#models th button"), seen = [names().join(" ")];
  const measured = buttons.findIndex(button => button.innerText === "model file, MB");
  for (const place of [2, 2, 0, measured]) { buttons[place].click(); seen.push(names()[0]) }
  const drawn = all("figure svg").every(figure => figure.getBoundingClientRect().height > 50);
  const result = document.createElement("pre"); result.id = "result";
  result.textContent = JSON.stringify({ seen, drawn, errors }); document.body.append(result);
});
</script></head>"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_a_browser_draws_the_figures_and_sorts_the_table(report, tmp_path):
    clicked = report.with_name("clicked.html")
    clicked.write_text(report.read_text().replace("</head>", CLICKS))
    result = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--disable-background-networking",
            "--virtual-time-budget=10000",
            "--dump-dom",
            clicked.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stderr
    assert '"errors":[]' in found[1] and '"drawn":true' in found[1]
    expected = ["digits-hybrid digits-vit digits-cnn"]
    # By accuracy down and up, by name, and by a cost that one model has.
    expected += ["digits-hybrid", "digits-cnn", "digits-vit", "digits-vit"]
    assert json.loads(found[1])["seen"] == expected


def test_the_report_shows_where_the_models_look(finished_run, tmp_path, capsys):
    vit = tmp_path / "vit"
    options = as_overrides(["model.num_layers=1", "training.epochs=1"])
    assert main(["train", "digits-vit", *options, "--run", str(vit)]) == 0
    out = tmp_path / "out"
    assert main(["compare", str(finished_run), str(vit), "--out", str(out), "--explain"]) == 0
    report = (out / "report.html").read_text()
    assert f"{vit} --out {out} --explain" in report
    table = report.split("<h2>Where the models look</h2>")[1].split("</table>")[0]
    for name in ("digits-cnn", "digits-vit"):
        encoded = re.findall(rf'alt="map of {name}" src="data:image/png;base64,([^"]*)"', table)
        maps = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in encoded]
        assert len(maps) == 12 and {each.shape for each in maps} == {(8, 8, 3)}
        is_coloured = [(each.max(axis=-1) > each.min(axis=-1)).any() for each in maps]
        assert np.mean(is_coloured) > 0.5  # Grad-CAM is empty where nothing speaks for the class

    (vit / "model.keras").unlink()
    command = ["compare", finished_run, vit, "--out", out, "--explain"]
    assert "model.keras" in refusal(capsys, *command)
    assert "--explain: needs runs of at least two recipes" in refusal(
        capsys, "compare", finished_run, "--out", out, "--explain"
    )
    assert (out / "report.html").read_text() == report  # the older report is left


def test_maps_need_the_data(tmp_path, labels, capsys):
    make_models(tmp_path / "runs", labels, cnn=0.8, vit=0.9)
    command = ["compare", tmp_path / "runs", "--out", tmp_path / "out", "--explain"]
    assert "--explain: needs the images" in refusal(capsys, *command)


def test_learning_curves_and_where_they_cross(tmp_path, labels):
    """The CNN leads with few images and the ViT with all; the hybrid equals the CNN."""
    rng, names = np.random.default_rng(0), ("cnn", "vit", "hybrid")
    accuracies = {0.1: (0.7, 0.5, 0.7), 1.0: (0.8, 0.92, 0.8)}
    for fraction, of_models in accuracies.items():
        for name, accuracy in zip(names, of_models, strict=True):
            for seed in range(4):
                make_run(
                    tmp_path / "runs" / f"{name}-{fraction}-{seed}",
                    f"digits-{name}",
                    make_predictions(labels, accuracy, rng),
                    labels,
                    (f"runtime.seed={seed}", f"data.train_fraction={fraction}"),
                    dataset={"train_images": round(3000 * fraction)},
                )
    result = analyze(read_runs([tmp_path / "runs"]))
    assert {model.name for model in result.models} == {f"digits-{name}" for name in names}
    assert all(len(model.runs) == 4 for model in result.models)
    assert [[point.images for point in curve.points] for curve in result.curves] == 3 * [
        [300, 3000]
    ]
    sentences = list(crossings(result.curves))
    assert (
        "digits-vit and digits-cnn cross: digits-cnn leads at 300 training images, "
        "digits-vit leads at 3,000." in sentences
    )
    assert (
        "The runs cannot tell digits-hybrid and digits-cnn apart at any number of training images."
        in sentences
    )
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert "<h2>Learning curves</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_the_path_of_the_data_does_not_make_another_model(tmp_path, labels):
    for seed in (0, 1):
        path, rng = tmp_path / str(seed), np.random.default_rng(seed)
        overrides = (f"runtime.seed={seed}", f"data.dataset=folder:/home/{seed}")
        make_run(path, "digits-cnn", make_predictions(labels, 0.8, rng), labels, overrides)
    assert [len(model.runs) for model in analyze(read_runs([tmp_path])).models] == [2]


def test_intervals_and_detectable_differences_stay_within_100_points(tmp_path, labels):
    """The two runs of each model differ more than the models do."""
    rng = np.random.default_rng(0)
    for name, accuracies in (("cnn", (0.1, 0.9)), ("vit", (0.2, 0.95))):
        for seed, accuracy in enumerate(accuracies):
            path = tmp_path / f"{name}-{seed}"
            predicted = make_predictions(labels, accuracy, rng)
            make_run(path, f"digits-{name}", predicted, labels, (f"runtime.seed={seed}",))
    (pair,) = analyze(read_runs([tmp_path])).pairs
    assert (pair.difference.low, pair.difference.high) == (-1, 1)
    assert "[-100.0, 100.0]" in pair.describe()
    assert "too few, to detect any difference" in pair.describe()


def test_two_recipes_of_one_name_have_a_curve_each(tmp_path, labels):
    """Two learning rates have a curve each; a recipe with one fraction has none."""
    rng = np.random.default_rng(0)
    for rate, accuracy in ((0.1, 0.6), (0.3, 0.9)):
        for fraction in (0.1, 1.0):
            make_run(
                tmp_path / f"{rate}-{fraction}",
                "digits-cnn",
                make_predictions(labels, accuracy, rng),
                labels,
                (f"training.peak_learning_rate={rate}", f"data.train_fraction={fraction}"),
            )
    make_run(tmp_path / "vit", "digits-vit", make_predictions(labels, 0.95, rng), labels)
    result = analyze(read_runs([tmp_path]))
    names = [f"digits-cnn (training.peak_learning_rate={rate})" for rate in (0.3, 0.1)]
    assert [model.name for model in result.models] == ["digits-vit", *names]
    assert [curve.name for curve in result.curves] == names
    for curve, model in zip(result.curves, result.models[1:], strict=True):
        assert [point.accuracy.count for point in curve.points] == [1, 1]
        assert curve.points[1].accuracy.mean == pytest.approx(model.correct().mean())
        assert colour_of(result, curve) == colour_of(result, model)


def test_a_curve_that_leads_everywhere_does_not_cross():
    def curve(name: str, runs: int, *means: float) -> LearningCurve:
        rng = np.random.default_rng(0)
        points = [
            Point(images, Interval(mean, mean, mean, runs), rng.random((runs, 400)) < mean)
            for images, mean in zip((100, 1000, 5000), means, strict=True)
        ]
        return LearningCurve(name, tuple(points))

    a, b = curve("a", 3, 0.5, 0.7, 0.9), curve("b", 3, 0.7, 0.9, 0.91)
    assert list(crossings([a, b])) == ["b leads a at these numbers of training images: 100, 1,000."]
    single = curve("b", 1, 0.7, 0.9, 0.91)
    assert list(crossings([a, single])) == [
        "The runs cannot tell a and b apart at any number of training images."
    ]


def test_runs_with_other_teachers_of_one_recipe_are_one_model(tmp_path, labels):
    """The path of a teacher differs from seed to seed; the recipe of the teacher counts."""
    rng = np.random.default_rng(0)
    for seed, teacher in ((0, "cnn"), (1, "cnn"), (2, "resnet18")):
        make_run(
            tmp_path / str(seed),
            "vit-laptop-taught",
            make_predictions(labels, 0.9, rng),
            labels,
            (f"runtime.seed={seed}", f"training.teacher=/runs/{teacher}-{seed}"),
            metrics={"teacher": teacher},
        )
    groups = by_recipe(read_runs([tmp_path]))
    assert [[run.recipe.runtime.seed for run in runs] for runs in groups.values()] == [[0, 1], [2]]
    assert "training.teacher=resnet18" in list(groups)[1]
