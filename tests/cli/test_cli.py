"""Commands and their options. A wrong request gives one line and exit status 2."""

import subprocess
import sys

import pytest

from cifar_models.cli.commands import COMMANDS
from cifar_models.cli.main import main
from tests.conftest import refusal, write_noise_images

RESUME = "python -m cifar_models resume"


@pytest.mark.parametrize(
    "command", [["--help"], ["train", "cnn", "--set", "training.epohcs=3"], ["train", "cmn"]]
)
def test_nothing_heavy_is_imported_for_help_or_a_wrong_request(command):
    program = (
        "import sys\n"
        "from cifar_models.cli.main import main\n"
        "try:\n"
        f"    main({command!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'sklearn', 'matplotlib', 'keras_tuner'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command}" in text


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"cifar_models {command}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["recipes", "models", "datasets"])
def test_list(what, capsys):
    assert main(["list", what]) == 0
    expected = {"recipes": "digits-cnn", "models": "resnet18", "datasets": "fashion_mnist"}
    assert expected[what] in capsys.readouterr().out


def test_list_runs(finished_run, capsys):
    assert main(["list", "runs", "--under", str(finished_run.parent)]) == 0
    assert str(finished_run) in capsys.readouterr().out


def test_list_runs_refuses_a_folder_without_runs(tmp_path, capsys):
    assert "no finished run" in refusal(capsys, "list", "runs", "--under", tmp_path)


def test_an_unknown_data_set_is_refused_with_a_suggestion(capsys):
    assert "did you mean cifar10?" in refusal(capsys, "train", "cnn", "--dataset", "cifar_10")


def test_a_crop_larger_than_the_image_is_refused(tmp_path, capsys):
    error = refusal(
        capsys, "train", "digits-cnn", "--set", "augmentation.crop_padding=8", "--run", tmp_path
    )
    assert "crop_padding = 8 must be below 8" in error


def test_a_folder_with_another_run_is_refused(finished_run, capsys):
    before = (finished_run / "metrics.json").read_bytes()
    error = refusal(capsys, "train", "digits-cnn", "--run", finished_run)
    assert f"{finished_run}: holds another run" in error
    assert (finished_run / "metrics.json").read_bytes() == before


def test_evaluate_refuses_a_folder_without_a_run(tmp_path, capsys):
    assert "not a run folder" in refusal(capsys, "evaluate", tmp_path)


def test_evaluate_refuses_an_unfinished_run(finished_run, tmp_path, capsys):
    for name in ("recipe.toml", "fingerprints.json"):
        (tmp_path / name).write_bytes((finished_run / name).read_bytes())
    error = refusal(capsys, "evaluate", tmp_path)
    assert f"is not finished (it has no metrics.json); resume it with: {RESUME} {tmp_path}" in error


def test_an_image_folder_with_an_empty_class_is_refused(tmp_path, capsys):
    root = write_noise_images(tmp_path, ["cat"], 10)
    (root / "dog").mkdir()
    error = refusal(capsys, "train", "cnn", "--dataset", f"folder:{root}")
    assert f"{root / 'dog'}: class dog has no images" in error


def test_an_image_folder_with_a_single_class_is_refused(tmp_path, capsys):
    root = write_noise_images(tmp_path, ["cat"], 10)
    assert "single class 'cat'" in refusal(capsys, "train", "cnn", "--dataset", f"folder:{root}")


def test_a_missing_image_folder_is_refused(tmp_path, capsys):
    error = refusal(capsys, "train", "cnn", "--dataset", f"folder:{tmp_path / 'none'}")
    assert "no such folder" in error


def test_tune_refuses_a_recipe_without_a_search_table(tmp_path, capsys):
    path = tmp_path / "plain.toml"
    path.write_text('[data]\ndataset = "digits"\n')
    error = refusal(capsys, "tune", path, "--out", tmp_path / "out")
    assert "declares nothing to search" in error


def test_tune_refuses_zero_trials(tmp_path, capsys):
    error = refusal(capsys, "tune", "digits-cnn", "--trials", "0", "--out", tmp_path / "out")
    assert "must be at least 1" in error


def test_a_failed_run_has_exit_status_1_and_no_traceback(monkeypatch, capsys):
    def fail(*arguments, **options):
        raise RuntimeError("the disk is on fire\nsecond line")

    monkeypatch.setattr("cifar_models.run.train.train", fail)
    assert main(["train", "digits-cnn"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: RuntimeError: the disk is on fire")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["cnn", "vit", "hybrid"])
def test_the_digits_use_their_own_recipes(name, monkeypatch, capsys):
    recipes = []
    monkeypatch.setattr(
        "cifar_models.run.train.train", lambda recipe, folder, force: recipes.append(recipe)
    )
    assert main(["train", name, "--dataset", "digits", "--seed", "3"]) == 0
    assert (
        capsys.readouterr().out
        == f"{name}: using the recipe digits-{name} because of --dataset digits\n"
    )
    assert main(["train", f"digits-{name}", "--seed", "3"]) == 0
    assert capsys.readouterr().out == ""
    assert recipes[0] == recipes[1]


def test_other_recipes_are_unchanged_on_the_digits(monkeypatch, capsys):
    recipes = []
    monkeypatch.setattr(
        "cifar_models.run.train.train", lambda recipe, folder, force: recipes.append(recipe)
    )
    assert main(["train", "resnet18", "--dataset", "digits"]) == 0
    assert main(["train", "cnn", "--set", "data.dataset=digits"]) == 0
    assert [recipe.name for recipe in recipes] == ["resnet18", "cnn"]
    assert capsys.readouterr().out == ""
