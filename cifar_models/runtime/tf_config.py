"""The processes that train one run together, as the environment names them.

TensorFlow's variable TF_CONFIG tells each process where the others are, and which one it is:

    {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}

All of them run the same command. The first one writes the run folder.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.signals import Interruption

VARIABLE = "TF_CONFIG"


def rank_and_workers() -> tuple[int, list[str]]:
    """Return the number of this process and the addresses of all: (0, []) without TF_CONFIG.

    Raises:
        RequestError: TF_CONFIG cannot be read.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return 0, []
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        task = config["task"]
        rank = int(task["index"])
        is_valid = task["type"] == "worker" and 0 <= rank < len(workers)
    except (ValueError, KeyError, TypeError):
        is_valid = False
    if not is_valid:
        raise RequestError(
            f'{VARIABLE}: must be {{"cluster": {{"worker": ["HOST:PORT", ...]}}, "task": '
            '{"type": "worker", "index": N}}'
        )
    return rank, [str(worker) for worker in workers]


@contextlib.contextmanager
def folder_of_this_process(path: Path, is_begun: bool) -> Iterator[Path]:
    """Give the run folder to the first process, and a scratch folder to every other one.

    Args:
        path: Path of the run folder.
        is_begun: Whether the scratch folder is to be a copy of the run folder.
    """
    rank, _ = rank_and_workers()
    if not rank:
        yield path
        return
    if is_begun and not path.is_dir():
        raise RequestError(f"{path}: is not a run folder that this machine sees; share the folder")
    scratch = Path(tempfile.mkdtemp(prefix="cifar-models-"))
    try:
        if is_begun:
            ignored = shutil.ignore_patterns(".*")  # the first process may be removing them
            shutil.copytree(path, scratch / path.name, ignore=ignored)
        yield scratch / path.name
    except (RequestError, RunError, Interruption) as error:
        own, first = str(scratch / path.name), str(path)
        error.args = tuple(str(part).replace(own, first) for part in error.args)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
