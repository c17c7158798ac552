"""What XLA compiled is kept where that is safe, and where it is not, nothing happens."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_models.runtime import xla_cache as compile_cache
from cifar_models.runtime.xla_cache import FLAGS, SWITCH, cache_folder, keep_compiled, seal

ROOT = Path(__file__).resolve().parents[2]
SECOND_START = """
import sys
from pathlib import Path
from cifar_models.runtime.xla_cache import keep_compiled_in
keep_compiled_in(Path(sys.argv[1]))
import tensorflow as tf
square = tf.function(lambda x: tf.reduce_sum(x @ x), jit_compile=True)
print("the answer is", float(square(tf.ones((3, 3)))))
"""
LOG_OF_THE_CACHE = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_executable_persistor=1"}


@pytest.fixture(autouse=True)
def gpu(tmp_path, monkeypatch) -> Path:
    """What the driver of a GPU says of itself; the cache is under tmp_path / "cache"."""
    driver = tmp_path / "nvidia"
    (driver / "gpus/0000:18:00.0").mkdir(parents=True)
    (driver / "gpus/0000:18:00.0/information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")
    (driver / "version").write_text("NVRM version: 595.10\n")
    monkeypatch.setattr(compile_cache, "DRIVER", driver)
    monkeypatch.setattr(compile_cache.atexit, "register", lambda *arguments: None)
    dropped = (*FLAGS, "CUDA_VISIBLE_DEVICES")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    home = str(tmp_path / "cache")
    monkeypatch.setattr(os, "environ", {**kept, SWITCH: "1", "XDG_CACHE_HOME": home})
    return driver


def settings() -> dict[str, str]:
    return {name: os.environ[name] for name in FLAGS if name in os.environ}


def test_the_folder_is_the_users_alone(tmp_path):
    keep_compiled()
    folder = cache_folder()
    assert folder and folder.parent == tmp_path / "cache/cifar_models/xla"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert settings() == {
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={folder}/compiled",
        "XLA_FLAGS": f"--xla_gpu_per_fusion_autotune_cache_dir={folder}/tuned",
    }


@pytest.mark.parametrize("value", [None, "0"])
def test_nobody_gets_it_unasked(value, tmp_path):
    os.environ.pop(SWITCH)
    if value is not None:
        os.environ[SWITCH] = value
    keep_compiled()
    assert not settings() and not (tmp_path / "cache").exists()


def test_without_a_gpu_nothing_happens(gpu, tmp_path):
    shutil.rmtree(gpu)
    keep_compiled()
    assert not settings() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("value", ["", "--xla_gpu_cuda_data_dir=/cuda"])
@pytest.mark.parametrize("name", FLAGS)
def test_what_the_user_has_set_stands_beside_it(name, value):
    os.environ[name] = value
    keep_compiled()
    assert all(f"{flag}=" in os.environ[each] for each, flag in FLAGS.items())
    assert os.environ[name].startswith(value or FLAGS[name])


@pytest.mark.parametrize("value", ["{flag}=/mine", "--other=1 {flag}=/mine", "/my/flags.txt"])
@pytest.mark.parametrize("name", FLAGS)
def test_a_cache_or_a_file_of_flags_that_the_user_has_set_stands_alone(name, value, tmp_path):
    os.environ[name] = value.format(flag=FLAGS[name])
    before = settings()
    keep_compiled()
    assert settings() == before and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("why", ["others write", "a link", "a file", "full", "space", "no home"])
def test_where_it_is_not_safe_nothing_happens(why, tmp_path, monkeypatch):
    folder = cache_folder()
    if why == "others write":
        folder.mkdir(mode=0o777, parents=True)
        folder.chmod(0o770)
    elif why == "a link":
        folder.parent.mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif why == "a file":
        (tmp_path / "cache").write_text("in the way")
    elif why == "full":
        usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    elif why == "space":  # which ends a flag
        os.environ["XDG_CACHE_HOME"] = str(tmp_path / "my cache")
    else:
        monkeypatch.setattr(Path, "mkdir", lambda *_, **options: (_ for _ in ()).throw(OSError))
    keep_compiled()
    assert not settings()


def test_each_kind_of_gpu_and_each_version_has_a_folder(gpu, monkeypatch):
    folders = [cache_folder()]
    (gpu / "gpus/0000:18:00.0/information").write_text("Model: NVIDIA A100\nIRQ: 1\n")
    folders.append(cache_folder())
    (gpu / "version").write_text("NVRM version: 600.1\n")
    folders.append(cache_folder())
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"
    folders.append(cache_folder())
    monkeypatch.setattr(compile_cache.metadata, "distributions", lambda: [])
    folders.append(cache_folder())
    assert len(set(folders)) == 5
    (gpu / "gpus/0000:18:00.0/information").write_text("Model: NVIDIA A100\nIRQ: 7\n")
    assert cache_folder() == folders[-1]


def test_what_is_not_as_it_was_sealed_is_removed():
    compiled = cache_folder() / "compiled"
    keep_compiled()
    for name in ("whole", "torn", "changed"):
        (compiled / f"{name}.pb").write_bytes(b"executable")
    seal(compiled)
    (compiled / "torn.pb").write_bytes(b"exec")
    (compiled / "changed.pb").write_bytes(b"Executable")
    (compiled / "unsealed.pb").write_bytes(b"executable")  # its process was killed
    (compiled / "begun.tmp").write_bytes(b"exe")  # another process writes it now
    (compiled / "given-up.tmp").write_bytes(b"exe")
    os.utime(compiled / "given-up.tmp", (0, 0))
    for name in FLAGS:
        del os.environ[name]
    keep_compiled()
    left = {path.name for path in compiled.iterdir()}
    assert left == {"whole.pb", "whole.pb.sha256", "begun.tmp"}


def test_the_oldest_go_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(compile_cache, "MOST_BYTES", 25)
    keep_compiled()
    compiled = cache_folder() / "compiled"
    for age, name in enumerate(("newest", "newer", "older", "oldest")):
        (compiled / f"{name}.pb").write_bytes(b"10 bytes..")
        os.utime(compiled / f"{name}.pb", (1e9 - age, 1e9 - age))
    seal(compiled)
    for name in FLAGS:
        del os.environ[name]
    keep_compiled()
    assert {path.stem for path in compiled.glob("*.pb")} == {"newest", "newer"}


def test_this_tensorflow_knows_the_flags_and_loads_what_it_compiled(tmp_path):
    """On a CPU, where only this test does so: XLA:CPU does not check for which CPU a file is."""
    command = [sys.executable, "-c", SECOND_START, str(tmp_path / "kept")]
    logs = []
    for _ in range(2):
        environment = {**os.environ, **LOG_OF_THE_CACHE, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert result.stdout == "the answer is 27.0\n", result.stderr
        logs.append(result.stderr)
    assert ["Loading cached entry" in log for log in logs] == [False, True]
    sealed = {path.suffix for path in (tmp_path / "kept/compiled").iterdir()}
    assert sealed == {".pb", ".sha256"}


@pytest.mark.gpu
def test_the_second_start_on_a_gpu_compiles_no_step(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "DRIVER", Path("/proc/driver/nvidia"))
    logs = []
    for number in range(2):
        command = [sys.executable, "-m", "cifar_models", "train", "digits-cnn"]
        command += ["--set", "training.epochs=1", "--run", str(tmp_path / f"run{number}")]
        environment = {**os.environ, **LOG_OF_THE_CACHE, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
        logs.append(result.stderr)
    assert ["Loading cached entry" in log for log in logs] == [False, True]
    assert list((cache_folder() / "compiled").glob("*.pb"))
