"""What XLA compiled for a GPU, kept on disk, so that the next start need not compile it again.

TensorFlow trusts such files: it fails a run where one is torn, or cannot be written. So it is told
of a folder only if that can be written and has room, and after every file was removed that is not
as a process left it when it ended. The files are code that will run: nobody else may write there.
"""

import atexit
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
from importlib import metadata
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia")
SWITCH = "CIFAR_MODELS_COMPILE_CACHE"
# Environment variable → the flag in it that names a folder.
FLAGS = {
    "TF_XLA_FLAGS": "--tf_xla_persistent_cache_directory",
    "XLA_FLAGS": "--xla_gpu_per_fusion_autotune_cache_dir",
}
SUM = ".sha256"  # ends the name of the file that holds another one's checksum
LEAST_FREE_BYTES = 1_000_000_000
MOST_BYTES = 500_000_000  # of executables, whose checksums take half a second then
OLD_SECONDS = 86_400.0  # after which a file that is still being written was given up


def cache_folder() -> Path | None:
    """Returns the place for what is compiled here, or None where there is no NVIDIA GPU.

    An executable is made for one kind of GPU by one version of the compiler, and a home may be
    shared by several machines: each combination has a folder of its own.
    """
    about = [path.read_text() for path in sorted(DRIVER.glob("gpus/*/information"))]
    models = [line for text in about for line in text.splitlines() if line.startswith("Model:")]
    if not models:
        return None
    versions = sorted(
        f"{package.name} {package.version}"
        for package in metadata.distributions()
        if (package.name or "").startswith(("tensorflow", "nvidia-"))
    )
    driver, visible = (DRIVER / "version").read_text(), os.environ.get("CUDA_VISIBLE_DEVICES")
    key = hashlib.sha256(json.dumps([models, driver, visible, versions]).encode()).hexdigest()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "cifar_models" / "xla" / key[:16]


def keep_compiled() -> None:
    """Has TensorFlow, not yet imported, keep what XLA compiles and what it found fastest.

    Only for those who set CIFAR_MODELS_COMPILE_CACHE=1: TensorFlow would fail a run whose code it
    cannot store, and no GPU has shown yet that it always can. Where the folder is not safe, nothing
    happens: a start takes longer then, and no more. Other flags of XLA that a user has set stay;
    where one of these two is set already, or the variable names a file of flags, nothing happens.
    """
    if os.environ.get(SWITCH) != "1":
        return
    for name, flag in FLAGS.items():
        is_set = os.environ.get(name, "").strip()
        if flag in is_set or (is_set and not is_set.startswith("-")):
            return
    with contextlib.suppress(OSError, RuntimeError):  # no home, or one that takes nothing
        if folder := cache_folder():
            keep_compiled_in(folder)


def keep_compiled_in(folder: Path) -> None:
    """Does so in a folder, once it is seen to be safe.

    Raises:
        OSError: it is not.
    """
    if not re.fullmatch(r"/[\w./+@=,-]*", str(folder)):
        raise OSError(f"{folder}: the flags of TensorFlow cannot name it")
    compiled, tuned = folder / "compiled", folder / "tuned"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder}: others may write there")
    for each in (compiled, tuned):
        each.mkdir(exist_ok=True)
        (each / ".probe").write_bytes(b"-")
        (each / ".probe").unlink()
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        raise OSError(f"{folder}: too little room")
    _remove_doubtful(compiled)
    atexit.register(seal, compiled)
    for (name, flag), place in zip(FLAGS.items(), (compiled, tuned), strict=True):
        os.environ[name] = f"{os.environ.get(name, '')} {flag}={place}".strip()


def seal(compiled: Path) -> None:
    """Flushes new executables and notes their checksums: a crash tears what was not flushed."""
    with contextlib.suppress(OSError):
        for path in compiled.glob("*.pb"):
            if not _sum_path(path).exists():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                _sum_path(path).write_text(_sum(path))


def _remove_doubtful(compiled: Path) -> None:
    """Removes executables that are not as they were sealed, and the oldest of too many."""
    size = 0
    for path in sorted(compiled.glob("*.pb"), key=_written, reverse=True):
        size += path.stat().st_size
        is_sound = _sum_path(path).exists() and _sum_path(path).read_text() == _sum(path)
        if not is_sound or size > MOST_BYTES:
            path.unlink(missing_ok=True)
            _sum_path(path).unlink(missing_ok=True)
    for path in compiled.glob("*.tmp"):  # TensorFlow renames them when they are whole
        if time.time() - _written(path) > OLD_SECONDS:
            path.unlink(missing_ok=True)


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + SUM)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
