"""A comparison of runs whose truth is known: what it says, what it refuses, what it warns of."""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cifar_models.cli.main import main
from cifar_models.comparison.comparison import compare
from cifar_models.comparison.figure_style import colour_of
from cifar_models.comparison.figures import pareto_front
from cifar_models.comparison.learning_curves import LearningCurve, Point, crossings
from cifar_models.comparison.runs import read_runs
from cifar_models.comparison.significance import Interval
from cifar_models.storage.run_folder import RunFolder
from tests.made_runs import answers, make_run

IMAGES = 900


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(IMAGES) % 3


def make_models(root: Path, labels: np.ndarray, **accuracies: float) -> list[Path]:
    """Three seeds of each digits recipe; a keyword is the recipe's name and its accuracy."""
    rng, paths = np.random.default_rng(0), []
    for name, accuracy in accuracies.items():
        for seed in range(3):
            probabilities = answers(labels, accuracy, rng)
            overrides = (f"runtime.seed={seed}",)
            path = root / f"{name}-{seed}"
            paths.append(make_run(path, f"digits-{name}", probabilities, labels, overrides))
    return paths


def refused(capsys, *command: object) -> str:
    assert main([str(word) for word in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_large_difference_is_found_and_a_small_one_is_not_claimed(tmp_path, labels):
    result = compare(read_runs(make_models(tmp_path, labels, cnn=0.80, vit=0.92, hybrid=0.80)))
    assert result.models[0].name == "digits-vit"
    assert len(result.pairs) == 3
    words = {frozenset((pair.better, pair.worse)): pair.conclusion() for pair in result.pairs}
    found = words[frozenset(("digits-vit", "digits-cnn"))]
    assert re.match(r"digits-vit is better than digits-cnn by 1[0-4]\.\d points \[", found)
    assert words[frozenset(("digits-cnn", "digits-hybrid"))].startswith("These runs cannot tell")
    for pair in result.pairs:
        assert pair.p_value >= pair.difference.p_value  # adjusted
        assert pair.is_certain() == ("digits-vit" in (pair.better, pair.worse))


def test_the_numbers_are_those_of_the_predictions(tmp_path, labels):
    paths = make_models(tmp_path, labels, cnn=0.8)
    model = compare(read_runs(paths)).models[0]
    by_hand = []
    for path in paths:
        with np.load(path / "predictions.npz") as content:
            by_hand.append((content["probabilities"].argmax(1) == content["labels"]).mean())
    assert model.accuracy.mean == pytest.approx(np.mean(by_hand))
    half = 4.302652729911275 * np.std(by_hand, ddof=1) / np.sqrt(3)  # Student, 2 degrees
    assert model.accuracy.high == pytest.approx(np.mean(by_hand) + half)
    assert model.class_accuracy().mean() == pytest.approx(model.score("recall_macro").mean)


def test_a_folder_stands_for_the_runs_below_it(tmp_path, labels):
    paths = make_models(tmp_path / "study", labels, cnn=0.8)
    assert [run.path for run in read_runs([tmp_path / "study", paths[0]])] == sorted(paths)


def test_two_forms_of_one_recipe_are_two_models(tmp_path, labels):
    rng = np.random.default_rng(0)
    for epochs in (5, 9):
        make_run(
            tmp_path / str(epochs), "digits-cnn", answers(labels, 0.8, rng), labels,
            (f"training.epochs={epochs}",),
        )  # fmt: skip
    names = {model.name for model in compare(read_runs([tmp_path])).models}
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
    one = make_run(tmp_path / "one", "digits-cnn", answers(labels, 0.8, rng), labels)
    other = make_run(
        tmp_path / "other", "digits-vit", answers(labels, 0.8, rng), labels, dataset=change
    )
    error = refused(capsys, "compare", one, other, "--out", tmp_path / "out")
    assert f"{other}: {message}" in error and str(one) in error
    assert not (tmp_path / "out").exists()


def test_other_images_another_split_and_the_same_seed_are_refused(tmp_path, labels, capsys):
    rng = np.random.default_rng(0)
    one = make_run(tmp_path / "one", "digits-cnn", answers(labels, 0.8, rng), labels)
    images = make_run(tmp_path / "images", "digits-vit", answers(labels, 0.8, rng), labels[::-1])
    trial = make_run(
        tmp_path / "trial", "digits-vit", answers(labels, 0.8, rng), labels,
        metrics={"split": "validation"},
    )  # fmt: skip
    again = make_run(tmp_path / "again", "digits-cnn", answers(labels, 0.8, rng), labels)
    for other, message in (
        (images, "answers to other images"),
        (trial, "is measured on the validation split"),
        (again, "is the same recipe and seed (0)"),
    ):
        assert message in refused(capsys, "compare", one, other, "--out", tmp_path / "out")


def test_predictions_that_are_missing_or_no_numbers(tmp_path, labels, capsys):
    rng = np.random.default_rng(0)
    run = make_run(tmp_path / "run", "digits-cnn", answers(labels, 0.8, rng), labels)
    folder, out = RunFolder(run), tmp_path / "out"
    bad = answers(labels, 0.8, rng)
    bad[17, 1] = np.nan
    folder.write_predictions(labels, bad, ("cat", "dog", "eel"))
    error = refused(capsys, "compare", run, "--out", out)
    assert f"{run / 'predictions.npz'}: row 17 holds a probability that is not finite" in error
    outside = labels.copy()
    outside[5] = 3
    folder.write_predictions(outside, answers(labels, 0.8, rng), ("cat", "dog", "eel"))
    assert "row 5 has label 3, outside the 3 classes" in refused(
        capsys, "compare", run, "--out", out
    )
    (run / "predictions.npz").unlink()
    error = refused(capsys, "compare", run, "--out", out)
    assert f"write it: python -m cifar_models evaluate {run}" in error
    assert "holds no finished run" in refused(capsys, "compare", tmp_path / "no", "--out", out)


def test_evaluate_writes_missing_predictions(finished_run, tmp_path):
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = (run / "predictions.npz").read_bytes()
    (run / "predictions.npz").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert (run / "predictions.npz").read_bytes() == before


def test_what_a_reviewer_would_object_to(tmp_path, labels):
    rng = np.random.default_rng(0)
    sure = answers(labels, 0.6, rng, sureness=0.99)
    never = answers(labels, 0.7, rng)
    never[:, 2] = 0
    make_run(tmp_path / "a", "digits-cnn", sure, labels, metrics={"steps": 100})
    make_run(
        tmp_path / "b", "digits-vit", never / never.sum(1, keepdims=True), labels,
        ("model.image_size=16",), metrics={"steps": 300, "precision": "mixed_bfloat16"},
    )  # fmt: skip
    text = " ".join(compare(read_runs([tmp_path])).warnings)
    for expected in (
        "digits-cnn was trained once",
        "digits-cnn is overconfident: on average it is sure of 99.0%",
        "digits-vit never predicts eel.",
        "digits-vit had 3.0 times the training images seen of digits-cnn",
        "differ in resolution in pixels (",
        "differ in precision (",
    ):
        assert expected in text, expected
    assert "number of runs" not in text and "device" not in text


def test_objections_to_how_settings_were_chosen(tmp_path, labels):
    rng = np.random.default_rng(0)
    seen = {"test_images_in_train": 7}
    for name, recipe, overrides in (
        ("a", "digits-cnn", ("training.tuning_trials=20",)),
        ("b", "digits-cnn", ("training.peak_learning_rate=0.5",)),
        ("c", "digits-vit", ()),
    ):
        make_run(tmp_path / name, recipe, answers(labels, 0.8, rng), labels, overrides, seen)
    text = " ".join(compare(read_runs([tmp_path])).warnings)
    assert f"7 of the {len(labels)} test images are training images too: whoever remembers" in text
    assert "are residual_cnn with other settings: whoever keeps the best" in text
    assert "are vit with" not in text
    assert "differ in trials of the search that chose their settings" in text
    assert "digits-vit: 0" in text and ": 20" in text


def test_nothing_to_object_to(tmp_path, labels):
    assert compare(read_runs(make_models(tmp_path, labels, cnn=0.8, vit=0.8))).warnings == ()


def test_what_was_measured_later_stands_in_the_table_too(tmp_path, labels):
    paths = make_models(tmp_path, labels, cnn=0.8)
    latency = {batch: {"p50": 1.5, "p95": 2.5} for batch in ("1", "128")}
    RunFolder(paths[0]).write_cost(
        {"latency_ms": latency, "peak_memory_bytes": 4e8, "model_bytes": 2e6}
    )
    for number, path in enumerate(paths):
        RunFolder(path).write_robustness(
            {
                **{"mean_corrupted_accuracy": 0.5 + number / 10, "clean_accuracy": 0.8},
                "images": 1200,
                "accuracy": {"fog": [0.7, 0.6, 0.5, 0.4, 0.3], "snow": [0.5] * 5},
                "entropy": {
                    **{"test": [9, 1], "noise": [2, 8], "shuffled": [5, 5]},
                    "bins": [0.0, 0.55, 1.1],
                },
            }
        )
    assert main(["compare", *map(str, paths), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Under bad conditions" in page and "1,200 test images" in page
    model = compare(read_runs(paths)).models[0]
    assert model.score("latency_1_p95").mean == 2.5
    assert model.score("peak_memory_megabytes").mean == 400
    assert model.score("mean_corrupted_accuracy").mean == pytest.approx(0.6)


def test_the_front_holds_what_nothing_beats():
    points = [(1.0, 80.0), (2.0, 79.0), (2.0, 85.0), (3.0, 85.0), (4.0, 90.0)]
    assert pareto_front(points) == [(1.0, 80.0), (2.0, 85.0), (4.0, 90.0)]


@pytest.fixture
def page(tmp_path, labels, capsys) -> Path:
    make_models(tmp_path / "runs", labels, cnn=0.80, vit=0.86, hybrid=0.92)
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert "digits-hybrid is better than digits-cnn by" in capsys.readouterr().out
    return out / "report.html"


def test_the_page_is_one_file_and_says_how_to_repeat_it(page, tmp_path):
    text = page.read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert text.count("<svg") == 6
    assert f"compare {tmp_path / 'runs'} --out {tmp_path / 'out'}" in text
    assert {path.stem for path in (page.parent / "figures").iterdir()} == {
        *("accuracies", "training", "pareto", "reliability", "confusions", "classes")
    }


def test_the_table_stands_in_csv_and_markdown_too(page):
    with (page.parent / "comparison.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"digits-cnn", "digits-vit", "digits-hybrid"}
    row = rows["digits-hybrid"]
    assert float(row["accuracy_low"]) < float(row["accuracy"]) < float(row["accuracy_high"])
    assert float(row["accuracy"]) == pytest.approx(0.92, abs=0.02)
    text = (page.parent / "comparison.md").read_text()
    assert text.splitlines()[2].startswith("| digits-hybrid | 3 | ")
    assert "## What follows" in text
    header, best = (text.splitlines()[number].split(" | ") for number in (0, 2))
    cells = dict(zip(header, best, strict=True))
    assert cells["accuracy"].startswith(f"{100 * float(row['accuracy']):.2f} %")
    assert cells["parameters"] == "1,000"
    assert "model file, MB" not in text  # nobody measured it


def test_names_cannot_bring_markup(tmp_path, labels):
    rng = np.random.default_rng(0)
    names = ["<script>alert(1)</script>", "dog", "eel"]
    make_run(
        tmp_path / "a", "digits-cnn", answers(labels, 0.8, rng), labels,
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
  for (const place of [2, 2, 0]) { buttons[place].click(); seen.push(names().join(" ")) }
  const drawn = all("figure svg").every(figure => figure.getBoundingClientRect().height > 50);
  const result = document.createElement("pre"); result.id = "result";
  result.textContent = JSON.stringify({ seen, drawn, errors }); document.body.append(result);
});
</script></head>"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_a_browser_draws_the_figures_and_sorts_the_table(page, tmp_path):
    clicked = page.with_name("clicked.html")
    clicked.write_text(page.read_text().replace("</head>", CLICKS))
    result = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--disable-background-networking"),
            *("--virtual-time-budget=10000", "--dump-dom", clicked.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stderr
    assert '"errors":[]' in found[1] and '"drawn":true' in found[1]
    best = "digits-hybrid digits-vit digits-cnn"
    worst = "digits-cnn digits-vit digits-hybrid"
    alphabetic = "digits-vit digits-hybrid digits-cnn"
    assert f'"seen":["{best}","{best}","{worst}","{alphabetic}"]' in found[1]


def test_learning_curves_and_where_they_cross(tmp_path, labels):
    """The CNN is ahead with few images and the ViT with all; the hybrid is the CNN's twin."""
    rng, names = np.random.default_rng(0), ("cnn", "vit", "hybrid")
    accuracies = {0.1: (0.7, 0.5, 0.7), 1.0: (0.8, 0.92, 0.8)}
    for fraction, of_fraction in accuracies.items():
        for name, accuracy in zip(names, of_fraction, strict=True):
            for seed in range(4):
                make_run(
                    tmp_path / "runs" / f"{name}-{fraction}-{seed}",
                    f"digits-{name}",
                    answers(labels, accuracy, rng),
                    labels,
                    (f"runtime.seed={seed}", f"data.train_fraction={fraction}"),
                    dataset={"train_images": round(3000 * fraction)},
                )
    result = compare(read_runs([tmp_path / "runs"]))
    assert {model.name for model in result.models} == {f"digits-{name}" for name in names}
    assert all(len(model.runs) == 4 for model in result.models)
    assert [[point.images for point in curve.points] for curve in result.curves] == 3 * [
        [300, 3000]
    ]
    sentences = list(crossings(result.curves))
    assert (
        "digits-vit and digits-cnn cross: digits-cnn leads with 300 images, "
        "digits-vit with 3,000." in sentences
    )
    assert (
        "digits-hybrid and digits-cnn: at no number of images do the runs tell them apart."
        in sentences
    )
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert "How much data it wants" in (tmp_path / "out" / "report.html").read_text()


def test_the_same_data_at_another_path_are_no_other_model(tmp_path, labels):
    for seed in (0, 1):
        path, rng = tmp_path / str(seed), np.random.default_rng(seed)
        overrides = (f"runtime.seed={seed}", f"data.dataset=folder:/home/{seed}")
        make_run(path, "digits-cnn", answers(labels, 0.8, rng), labels, overrides)
    assert [len(model.runs) for model in compare(read_runs([tmp_path])).models] == [2]


def test_what_runs_cannot_tell_stays_below_100_points(tmp_path, labels):
    """Two runs each, that differ more from each other than any models could."""
    rng = np.random.default_rng(0)
    for name, accuracies in (("cnn", (0.1, 0.9)), ("vit", (0.2, 0.95))):
        for seed, accuracy in enumerate(accuracies):
            path = tmp_path / f"{name}-{seed}"
            answered = answers(labels, accuracy, rng)
            make_run(path, f"digits-{name}", answered, labels, (f"runtime.seed={seed}",))
    (pair,) = compare(read_runs([tmp_path])).pairs
    assert (pair.difference.low, pair.difference.high) == (-1, 1)
    assert "[-100.0, 100.0]" in pair.conclusion()
    assert "no difference would have been found" in pair.conclusion()


def test_two_recipes_of_one_name_have_a_curve_each(tmp_path, labels):
    """Here two learning rates; a third recipe has one part alone, and no curve."""
    rng = np.random.default_rng(0)
    for rate, accuracy in ((0.1, 0.6), (0.3, 0.9)):
        for fraction in (0.1, 1.0):
            make_run(
                tmp_path / f"{rate}-{fraction}",
                "digits-cnn",
                answers(labels, accuracy, rng),
                labels,
                (f"training.peak_learning_rate={rate}", f"data.train_fraction={fraction}"),
            )
    make_run(tmp_path / "vit", "digits-vit", answers(labels, 0.95, rng), labels)
    result = compare(read_runs([tmp_path]))
    names = [f"digits-cnn (training.peak_learning_rate={rate})" for rate in (0.3, 0.1)]
    assert [model.name for model in result.models] == ["digits-vit", *names]
    assert [curve.name for curve in result.curves] == names
    for curve, model in zip(result.curves, result.models[1:], strict=True):
        assert [point.accuracy.count for point in curve.points] == [1, 1]
        assert curve.points[1].accuracy.mean == pytest.approx(model.correct().mean())
        assert colour_of(result, curve) == colour_of(result, model)


def test_one_lead_is_a_lead_and_no_crossing():
    def curve(name: str, *means: float) -> LearningCurve:
        points = [
            Point(images, Interval(mean, mean - 0.02, mean + 0.02, 3))
            for images, mean in zip((100, 1000, 5000), means, strict=True)
        ]
        return LearningCurve(name, tuple(points))

    a, b = curve("a", 0.5, 0.7, 0.9), curve("b", 0.6, 0.8, 0.91)
    assert list(crossings([a, b])) == ["b leads a with 100, 1,000 images."]
