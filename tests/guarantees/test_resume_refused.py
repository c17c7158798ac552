"""What `resume` refuses: another recipe, other classes, other data. And what it does not mind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.config.run_identity import refuse_differences
from cifar_models.errors import RequestError
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN, Killed


def begin(run: Path, *more: str) -> Path:
    """Leaves a run folder as a kill before the first step would."""

    def killed(*arguments):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("cifar_models.run.train.run_to_end", killed)
        main([*TINY_CNN, *more, "--run", str(run)])
    return run


def refused(capsys, *command: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def edit(run: Path, old: str, new: str) -> None:
    path = run / "recipe.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Two classes of noise."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(80):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def test_another_recipe(tmp_path, capsys):
    run = begin(tmp_path / "run")
    edit(run, "epochs = 2", "epochs = 3")
    edit(run, "seed = 0", "seed = 1")
    error = refused(capsys, "resume", run)
    assert f"{run}: cannot be resumed: training.epochs was 2 and is 3" in error
    assert "runtime.seed was 0 and is 1" in error


def test_where_the_data_lies_and_how_often_to_save_may_change(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    edit(run, 'data_dir = ""', 'data_dir = "/elsewhere"')
    edit(run, "checkpoint_seconds = 300.0", "checkpoint_seconds = 5.0")
    monkeypatch.setattr("cifar_models.run.resume.run_to_end", lambda *arguments: None)
    assert main(["resume", str(run)]) == 0


def test_a_class_with_another_name(image_folder, tmp_path, capsys):
    run = begin(tmp_path / "run", "--dataset", f"folder:{image_folder}")
    (image_folder / "cat").rename(image_folder / "zebra")
    error = refused(capsys, "resume", run)
    assert "the classes were ['cat', 'dog'] and are ['dog', 'zebra']" in error


def test_an_image_that_changed(image_folder, tmp_path, capsys):
    run = begin(tmp_path / "run", "--dataset", f"folder:{image_folder}")
    Image.new("RGB", (8, 8)).save(image_folder / "cat" / "0.png")
    error = refused(capsys, "resume", run)
    assert "the data's SHA-256 began with" in error


def test_train_names_resume_for_an_unfinished_run(tmp_path, capsys):
    run = begin(tmp_path / "run")
    error = refused(capsys, *TINY_CNN, "--run", run)
    assert f"{run}: holds an unfinished run; resume it with: " in error
    assert f"python -m cifar_models resume {run}" in error


def test_something_that_is_no_run(tmp_path, capsys):
    assert "not a run folder" in refused(capsys, "resume", tmp_path)
    assert "not a run folder" in refused(capsys, "resume", tmp_path / "nothing")


def test_a_run_that_never_began(tmp_path, capsys):
    run = begin(tmp_path / "run")
    (run / "fingerprints.json").unlink()
    assert "stopped before training began; remove it and train" in refused(capsys, "resume", run)


def test_a_trial_of_a_search_stays_on_validation(tmp_path, monkeypatch):
    """Its test split is closed: by hand, too, it is resumed on what it began with."""
    run = begin(tmp_path / "run")
    fingerprints = RunFolder(run).read_fingerprints()
    RunFolder(run).write_fingerprints({**fingerprints, "evaluation_split": "validation"})
    evaluated = []
    monkeypatch.setattr(
        "cifar_models.run.resume.run_to_end",
        lambda recipe, data, *others: evaluated.append(data.evaluation_split),
    )
    assert main(["resume", str(run)]) == 0
    assert evaluated == ["validation"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.ema_decay=1.0", "must be at least 0 and below 1"),
        ("runtime.checkpoint_seconds=-1.0", "must be at least 0"),
        ("runtime.steps_per_execution=-1", "must be at least 0"),
    ],
)
def test_impossible_values(override, problem, capsys):
    assert problem in refused(capsys, "train", "digits-cnn", "--set", override)


def test_a_deterministic_run_has_no_xla(capsys):
    error = refused(capsys, "train", "digits-cnn", "--deterministic", "--set", "runtime.xla=on")
    assert 'runtime.xla = \'on\' must be "auto" or "off" for a deterministic run' in error


def test_a_key_that_is_newer_than_the_run_is_no_difference():
    now = {
        "recipe": {"training.epochs": 3, "training.new": 0},
        "class_names": [],
        "data_sha256": "",
    }
    then = {**now, "recipe": {"training.epochs": 3}}
    refuse_differences(Path("run"), then, now)
    for other in ({"training.epochs": 4}, {}):
        with pytest.raises(RequestError, match=r"training\.epochs was"):
            refuse_differences(Path("run"), {**now, "recipe": other}, now)
