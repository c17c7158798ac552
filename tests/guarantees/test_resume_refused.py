"""Changes with which `resume` refuses a run (recipe, classes, data), and changes it accepts."""

from pathlib import Path

import pytest
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.config.run_identity import refuse_differences
from cifar_models.errors import RequestError
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN, Killed, refusal, write_noise_images


def begin(run: Path, *options: str) -> Path:
    """Write a run folder as a run leaves it that is killed before its first step."""

    def killed(*arguments):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("cifar_models.run.train.run_to_end", killed)
        main([*TINY_CNN, *options, "--run", str(run)])
    return run


def edit_recipe(run: Path, old: str, new: str) -> None:
    """Replace a line in the recipe of a run."""
    path = run / "recipe.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Write a folder of noise images of two classes."""
    return write_noise_images(tmp_path / "images", ("cat", "dog"), 80)


def test_another_recipe_is_refused(tmp_path, capsys):
    run = begin(tmp_path / "run")
    edit_recipe(run, "epochs = 2", "epochs = 3")
    edit_recipe(run, "seed = 0", "seed = 1")
    error = refusal(capsys, "resume", run)
    assert f"{run}: cannot be resumed: training.epochs was 2 and is 3" in error
    assert "runtime.seed was 0 and is 1" in error


def test_the_data_folder_and_the_checkpoint_interval_may_change(tmp_path, monkeypatch):
    run = begin(tmp_path / "run")
    edit_recipe(run, 'data_dir = ""', 'data_dir = "/elsewhere"')
    edit_recipe(run, "checkpoint_seconds = 300.0", "checkpoint_seconds = 5.0")
    monkeypatch.setattr("cifar_models.run.resume.run_to_end", lambda *arguments: None)
    assert main(["resume", str(run)]) == 0


def test_a_renamed_class_is_refused(image_folder, tmp_path, capsys):
    run = begin(tmp_path / "run", "--dataset", f"folder:{image_folder}")
    (image_folder / "cat").rename(image_folder / "zebra")
    error = refusal(capsys, "resume", run)
    assert "the classes were ['cat', 'dog'] and are ['dog', 'zebra']" in error


def test_a_changed_image_is_refused(image_folder, tmp_path, capsys):
    run = begin(tmp_path / "run", "--dataset", f"folder:{image_folder}")
    Image.new("RGB", (8, 8)).save(image_folder / "cat" / "0.png")
    error = refusal(capsys, "resume", run)
    assert "the data's SHA-256 began with" in error


def test_moved_images_are_found_with_their_new_place(image_folder, tmp_path, monkeypatch, capsys):
    run = begin(tmp_path / "run", "--dataset", f"folder:{image_folder}")
    moved = image_folder.rename(tmp_path / "moved")
    assert "no such folder" in refusal(capsys, "resume", run)
    monkeypatch.setattr("cifar_models.run.resume.run_to_end", lambda *arguments: None)
    assert main(["resume", str(run), "--dataset", f"folder:{moved}"]) == 0
    Image.new("RGB", (8, 8)).save(moved / "cat" / "0.png")
    error = refusal(capsys, "resume", run, "--dataset", f"folder:{moved}")
    assert "the data's SHA-256 began with" in error


def test_train_suggests_resume_for_an_unfinished_run(tmp_path, capsys):
    run = begin(tmp_path / "run")
    error = refusal(capsys, *TINY_CNN, "--run", run)
    assert f"{run}: holds an unfinished run; resume it with: " in error
    assert f"python -m cifar_models resume {run}" in error


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, capsys):
    assert "not a run folder" in refusal(capsys, "resume", tmp_path)
    assert "not a run folder" in refusal(capsys, "resume", tmp_path / "nothing")


def test_a_run_without_fingerprints_is_refused(tmp_path, capsys):
    run = begin(tmp_path / "run")
    (run / "fingerprints.json").unlink()
    assert "stopped before training began; repeat the command" in refusal(capsys, "resume", run)


def test_a_trial_resumes_with_the_validation_split(tmp_path, monkeypatch):
    """Resuming a trial with the command must not evaluate it on the test split."""
    run = begin(tmp_path / "run")
    fingerprints = RunFolder(run).read_fingerprints()
    RunFolder(run).write_fingerprints({**fingerprints, "evaluation_split": "validation"})
    evaluated = []
    monkeypatch.setattr(
        "cifar_models.run.resume.run_to_end",
        lambda context, earlier: evaluated.append(context.data.evaluation_split),
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
def test_values_out_of_range_are_refused(override, problem, capsys):
    assert problem in refusal(capsys, "train", "digits-cnn", "--set", override)


def test_a_deterministic_run_with_xla_is_refused(capsys):
    error = refusal(capsys, "train", "digits-cnn", "--deterministic", "--set", "runtime.xla=on")
    assert 'runtime.xla = \'on\' must be "auto" or "off" for a deterministic run' in error


def test_a_key_that_is_newer_than_the_run_is_not_a_difference():
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
