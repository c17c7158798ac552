"""The tables and the figure of results for known records, and records that are refused."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cifar_models.errors import RequestError
from experiments.read_records import read_results
from experiments.results_table import (
    BEGIN,
    END,
    FIGURE,
    FULL_TABLE,
    README,
    duration,
    main,
    points_of,
    readme_results,
    results_files,
    write_results,
)
from tests.conftest import read_metrics
from tests.synthetic_runs import make_run

PETS, COPY = "0" * 64, "1" * 64
BEFORE, AFTER = "# Project\n\n", "\nThe end, | with a bar\n"


def make_recorded(
    root: Path,
    where: str,
    accuracy: float,
    *overrides: str,
    recipe: str = "digits-cnn",
    dataset: dict | None = None,
    **metrics: object,
) -> Path:
    """Write a run in experiments/records/ with these metrics, which its predictions do not have."""
    path = root / "experiments/records" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.arange(30) % 3
    probabilities = np.eye(3, dtype=np.float32)[labels]
    measured = {"accuracy": accuracy, **metrics}
    return make_run(path, recipe, probabilities, labels, overrides, dataset, measured)


@pytest.fixture
def root(tmp_path) -> Path:
    """Return a project with README.md, docs/results.md, two names of data sets and no record."""
    for name in (README, FULL_TABLE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{BEFORE}{BEGIN}\nstale\n{END}\n{AFTER}")
    (tmp_path / "experiments/records").mkdir(parents=True)
    (tmp_path / "experiments/records/data.toml").write_text(
        f'{PETS} = "pets"\n{COPY} = "pets, JPEG q75 copy"\n'
    )
    return tmp_path


def rows_of(root: Path, document: str = FULL_TABLE) -> list[list[str]]:
    """Return the cells of the table in a document, without the header."""
    lines = (root / document).read_text().partition(BEGIN)[2].partition(END)[0].split("\n")
    rows = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows][2:]


def read_points(path: Path) -> list[dict]:
    """Return the points that the figure holds in its description."""
    (description,) = ElementTree.parse(path).iter("{http://purl.org/dc/elements/1.1/}description")
    return json.loads(description.text)


def readme_of(root: Path) -> str:
    return results_files(root)[root / README]


def refusal(root: Path) -> str:
    """Return the message with which records are refused, before anything is written."""
    before = {name: (root / name).read_bytes() for name in (README, FULL_TABLE)}
    with pytest.raises(RequestError) as error:
        write_results(root)
    assert before == {name: (root / name).read_bytes() for name in before}
    assert not (root / FIGURE).exists()
    message = str(error.value)
    assert "\n" not in message
    return message


def test_mean_sample_deviation_and_count_of_the_seeds(root):
    # 90, 92 and 97: mean 93; squares 9 + 1 + 16 = 26, half of it 13, whose root is 3.6056.
    for seed, (accuracy, seconds) in enumerate([(0.90, 30.0), (0.92, 40.0), (0.97, 65.0)]):
        make_recorded(
            root, f"2026-01-31-pets/deep/down/{seed}", accuracy, f"runtime.seed={seed}",
            train_seconds=seconds, parameters=1234567,
        )  # fmt: skip
    write_results(root)
    assert rows_of(root) == [
        [
            "[`digits-cnn`](../experiments/records/2026-01-31-pets), 3 epochs",
            "pets",
            "93.00 ± 3.61 %",
            "3",
            "45 s",
            "CPU",
            "1,234,567",
        ]
    ]
    assert rows_of(root, README) == [
        [
            "[`digits-cnn`](experiments/records/2026-01-31-pets), 3 epochs",
            "93.00 ± 3.61 %",
            "3",
            "45 s",
            "CPU",
            "1,234,567",
        ]
    ]
    assert "Test accuracy on pets:\n" in (root / README).read_text()


def test_tta_views_and_resized_images_are_named(root):
    make_recorded(root, "2026-01-31-pets", 0.9, "augmentation.tta_views=6", "model.image_size=16")
    write_results(root)
    assert rows_of(root)[0][0].endswith(", 3 epochs, resized to 16 pixels, 6 TTA views")


def test_a_run_with_a_time_budget_is_named_and_is_not_in_the_readme(root):
    make_recorded(root, "2026-01-31-own", 0.9)
    budget = ("training.epochs=0", "training.budget_seconds=600")
    make_recorded(root, "2026-02-28-study", 0.95, *budget)
    write_results(root)
    assert rows_of(root)[0][0].endswith("-study), 3 epochs, a budget of 10 min")
    assert [row[1] for row in rows_of(root, README)] == ["90.00 %"]


def test_a_teacher_is_named(root):
    make_recorded(root, "2026-01-31-pets", 0.9, recipe="digits-vit", teacher="cnn")
    write_results(root)
    assert rows_of(root)[0][0].endswith(", 3 epochs, taught by `cnn`, whose time is included")


def test_a_record_may_be_a_single_run_and_has_no_deviation(root):
    make_recorded(root, "2026-01-31-alone", 0.8477, train_seconds=1485.0)
    write_results(root)
    assert rows_of(root)[0][2:5] == ["84.77 %", "1", "25 min"]


def test_the_rest_of_the_documents_stays_and_a_second_call_changes_nothing(root):
    make_recorded(root, "2026-01-31-alone", 0.5)
    write_results(root)
    written = {name: (root / name).read_text() for name in (README, FULL_TABLE, FIGURE)}
    for name in (README, FULL_TABLE):
        assert written[name].startswith(BEFORE) and written[name].endswith(AFTER)
        assert "stale" not in written[name]
    assert results_files(root) == {root / name: text for name, text in written.items()}


def test_the_command_writes_the_files_and_reports_errors(root, capsys):
    make_recorded(root, "2026-01-31-alone", 0.8477)
    assert main(root) == 0
    written = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in written] == [
        str(root / name) for name in (README, FULL_TABLE, FIGURE)
    ]
    assert rows_of(root)[0][2] == "84.77 %"
    (root / "README.md").write_text("no marks\n")
    assert main(root) == 2
    assert capsys.readouterr().err.startswith(f"error: {root / 'README.md'}: has no lines")


def test_an_edited_table_differs_from_the_records(root):
    make_recorded(root, "2026-01-31-alone", 0.8477)
    write_results(root)
    edited = (root / "README.md").read_text().replace("84.77", "85.77")
    (root / "README.md").write_text(edited)
    assert readme_of(root) != edited


def test_each_recipe_device_data_set_and_subset_has_a_row(root):
    make_recorded(root, "2026-01-01-a/cnn-0", 0.5)
    make_recorded(root, "2026-01-01-a/cnn-1", 0.7, "runtime.seed=1")
    make_recorded(root, "2026-01-01-a/cnn-gpu", 0.8, device="GPU")
    make_recorded(root, "2026-01-01-a/vit", 0.9, recipe="digits-vit")
    make_recorded(root, "2026-01-01-a/copy", 0.4, dataset={"sha256": COPY})
    make_recorded(
        root, "2026-01-01-a/small", 0.3, "data.train_fraction=0.03",
        dataset={"train_images": 1485},
    )  # fmt: skip
    make_recorded(root, "2026-01-02-b", 0.6)
    write_results(root)
    rows = [(row[0].partition(", ")[0], row[1], row[2], row[5]) for row in rows_of(root)]
    cnn, vit = (
        f"[`digits-{name}`](../experiments/records/2026-01-01-a)" for name in ("cnn", "vit")
    )
    later = "[`digits-cnn`](../experiments/records/2026-01-02-b)"
    assert rows == [  # by data, then the best first; 0.5 and 0.7 are 60 ± 14.14
        (vit, "pets", "90.00 %", "CPU"),
        (cnn, "pets", "80.00 %", "GPU"),
        (cnn, "pets", "60.00 ± 14.14 %", "CPU"),
        (later, "pets", "60.00 %", "CPU"),
        (cnn, "pets, JPEG q75 copy", "40.00 %", "CPU"),
        (cnn, "pets; 1,485 training images", "30.00 %", "CPU"),
    ]


def test_recipes_of_one_name_are_distinguished_by_their_keys(root):
    for number, rate in enumerate((0.1, 0.2)):
        override = f"training.peak_learning_rate={rate}"
        make_recorded(root, f"2026-01-01-a/{number}", 0.9 - rate, override)
    write_results(root)
    assert [row[0].partition("]")[0] for row in rows_of(root)] == [
        "[`digits-cnn (training.peak_learning_rate=0.1)`",
        "[`digits-cnn (training.peak_learning_rate=0.2)`",
    ]


def test_runs_that_stopped_early_give_a_range_of_epochs(root):
    make_recorded(root, "2026-01-01-a/0", 0.9, epochs=8)
    make_recorded(root, "2026-01-01-a/1", 0.9, "runtime.seed=1", epochs=11)
    write_results(root)
    assert rows_of(root)[0][0].endswith("), 8 to 11 epochs")


def test_the_readme_and_the_figure_show_the_first_data_set_without_subsets(root):
    make_recorded(root, "2026-01-01-a/cnn-0", 0.5, train_seconds=30.0, parameters=1234)
    make_recorded(root, "2026-01-01-a/cnn-1", 0.7, "runtime.seed=1", train_seconds=50.0)
    make_recorded(root, "2026-01-01-a/copy", 0.4, dataset={"sha256": COPY})
    make_recorded(root, "2026-01-01-a/small", 0.3, "data.train_fraction=0.03")
    make_recorded(root, "2026-01-01-a/vit", 0.9, "augmentation.tta_views=6", recipe="digits-vit")
    write_results(root)
    assert [row[1] for row in rows_of(root, README)] == ["90.00 %", "60.00 ± 14.14 %"]
    assert len(rows_of(root, FULL_TABLE)) == 4
    vit, cnn = points_of(readme_results(root, read_results(root / "experiments/records")))
    assert cnn == {
        "recipe": "digits-cnn",
        "record": "2026-01-01-a",
        "train_seconds": 40.0,
        "accuracies": [50.0, 70.0],
        "tta_views": 1,
        "parameters": 1234,
        "device": "CPU",
    }
    assert (vit["recipe"], vit["accuracies"], vit["tta_views"]) == ("digits-vit", [90.0], 6)
    assert read_points(root / FIGURE) == [vit, cnn]
    assert "pets: accuracy against training time" in (root / FIGURE).read_text()


def test_the_readme_shows_only_the_newest_record_of_a_recipe(root):
    make_recorded(root, "2026-01-01-a/cnn", 0.9)
    make_recorded(root, "2026-01-01-a/vit", 0.6, recipe="digits-vit")
    make_recorded(root, "2026-01-02-a/wider", 0.8, "model.stem_filters=64")
    make_recorded(root, "2026-01-03-a/small", 0.3, "data.train_fraction=0.03")
    write_results(root)
    assert [row[1] for row in rows_of(root, README)] == ["80.00 %", "60.00 %"]
    assert len(rows_of(root, FULL_TABLE)) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.592, "2.59 s"), (57.95, "58 s"), (100, "1.67 min"), (1485, "25 min"), (9000, "2.50 h")],
)
def test_durations_are_written_in_a_suitable_unit(seconds, text):
    assert duration(seconds) == text


def test_an_old_record_without_an_environment_and_new_keys_is_read(root):
    run = make_recorded(root, "2026-01-01-old", 0.9)
    (run / "environment.json").unlink()
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("train_fraction = 1.0\n", ""))
    write_results(root)
    assert rows_of(root)[0][2] == "90.00 %"


@pytest.mark.parametrize("name", [README, FULL_TABLE])
def test_a_document_without_marks_is_refused(name, root):
    make_recorded(root, "2026-01-01-a", 0.9)
    for text in ("no marks\n", f"{END}\n{BEGIN}\n"):
        (root / name).write_text(text)
        assert f"{name}: has no lines {BEGIN} and {END}; put them" in refusal(root)


def test_a_folder_without_records_is_refused(root):
    assert "records: holds no record; copy a run into" in refusal(root)


def test_a_record_without_runs_or_with_a_wrong_name_is_refused(root):
    records = root / "experiments/records"
    for name, message in (
        ("2026-01-01-empty", "2026-01-01-empty: holds no run; copy one into it, or remove it"),
        ("my-record", "my-record: the name of a record must be YYYY-MM-DD-name; rename it"),
    ):
        (records / name).mkdir()
        assert refusal(root).endswith(message)
        (records / name).rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": float("nan")}, "metrics.json: cannot be read: it holds the number nan"),
        (
            {"accuracy": "0.9"},
            "metrics.json: cannot be read: Expected `float`, got `str` - at `$.accuracy`",
        ),
        (
            {"parameters": None},
            "metrics.json: cannot be read: Expected `int`, got `null` - at `$.parameters`",
        ),
        ({"split": "validation"}, "is measured on the validation split; a record needs the test"),
    ],
)
def test_invalid_metrics_are_refused(root, change, message):
    run = make_recorded(root, "2026-01-01-a", 0.9)
    metrics = read_metrics(run)
    (run / "metrics.json").write_text(json.dumps({**metrics, **change}))
    assert message in refusal(root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("metrics.json", "the run is not finished"),
        ("recipe.toml", "not a run folder"),
        ("dataset.json", "dataset.json: cannot be read"),
    ],
)
def test_an_incomplete_run_is_refused(root, name, message):
    (make_recorded(root, "2026-01-01-a", 0.9) / name).unlink()
    assert message in refusal(root)


def test_incomplete_metrics_are_refused(root):
    run = make_recorded(root, "2026-01-01-a", 0.9)
    (run / "metrics.json").write_text('{"accuracy": 0.9}')
    assert "metrics.json: cannot be read: Object missing required field" in refusal(root)


def test_two_runs_of_one_recipe_and_seed_are_refused(root):
    run = make_recorded(root, "2026-01-01-a/0", 0.9)
    shutil.copytree(run, run.parent / "1")
    assert "has the same recipe and seed" in refusal(root)


def test_a_data_set_without_a_name_is_refused(root):
    make_recorded(root, "2026-01-01-a", 0.9, dataset={"sha256": "2" * 64})
    message = refusal(root)
    assert f"its data set has no name yet; add a line to {root}" in message
    assert message.endswith(f'data.toml: {"2" * 64} = "…"')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"pets", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"a = 1", "a = 1 must be a string"),
    ],
)
def test_an_invalid_file_of_names_is_refused(root, content, message):
    make_recorded(root, "2026-01-01-a", 0.9)
    (root / "experiments/records/data.toml").write_bytes(content)
    assert f"data.toml: {message}" in refusal(root)
