"""An installed wheel works from any folder, without the checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import cifar_models
from cifar_models.config.recipe_file import recipe_paths
from cifar_models.sweeps.study_file import STUDIES

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in a folder and return its standard output."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout, and return its path."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(folder, *pip, "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside the tested dependencies, and return the bin folder."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", {"base": folder, "platbase": folder})
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    run(folder, *pip, "--quiet", "--no-deps", "--no-index", wheel)
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_the_package_its_recipes_and_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    package = Path(cifar_models.__file__).parent
    kinds = ("py", "html", "css", "js", "j2")
    sources = [path for kind in kinds for path in package.rglob(f"*.{kind}")]
    expected = {path.relative_to(package.parent).as_posix() for path in sources}
    expected |= {f"cifar_models/experiments/{name}.toml" for name in recipe_paths()}
    studies = [path.name for path in STUDIES.glob("*.toml")]
    expected |= {f"cifar_models/experiments/studies/{name}" for name in studies}
    assert names == expected
    assert f"-{cifar_models.__version__}-" in wheel.name


@pytest.mark.slow
def test_the_command_runs_in_an_empty_folder(scripts, tmp_path):
    where = run(
        tmp_path, scripts / "python", "-c", "import cifar_models; print(cifar_models.__file__)"
    )
    assert Path(where.strip()).is_relative_to(scripts.parent)
    listed = run(tmp_path, scripts / "cifar-models", "list", "recipes")
    assert all(name in listed for name in recipe_paths())

    run(tmp_path, scripts / "cifar-models", "train", "digits-cnn", "--set", "training.epochs=1")
    (run_folder,) = (tmp_path / "runs").iterdir()
    found = {path.name for path in run_folder.iterdir()}
    assert {
        "recipe.toml",
        "environment.json",
        "dataset.json",
        "fingerprints.json",
        "history.csv",
        "metrics.json",
        "predictions.npz",
        "model.keras",
        "tensorboard",
        "plots",
        "log.txt",
    } <= found


def test_the_command_has_the_exit_status_of_a_wrong_request(scripts, tmp_path):
    command = [scripts / "cifar-models", "train", "digits-cmn"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert "did you mean digits-cnn" in result.stderr
