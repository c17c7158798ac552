"""A worker: a process that trains one run after another.

TensorFlow is imported once, so that a run costs little more than its training. The memory that a
run leaves behind goes with the worker.
"""

import contextlib
import os
import platform
import sys
import time
from multiprocessing.connection import Connection

from cifar_models.runtime.spawned_processes import end_with_parent
from cifar_models.workers.job import Job, JobResult, Ready

CHECK_SECONDS = 0.2  # between two checks whether the folder of a job is free
BUSY_SECONDS = 60.0  # for which a job waits for another process that uses its folder


def work(jobs: Connection, cores: list[int], onednn: str) -> None:
    """Do jobs until the connection is closed. This is the main function of a worker.

    Args:
        jobs: Gives each Job, and takes its JobResult.
        cores: The cores that the worker may use. Empty: all of them.
        onednn: runtime.onednn of the recipes.
    """
    end_with_parent()
    with contextlib.suppress(AttributeError, OSError):  # not on macOS
        os.sched_setaffinity(0, cores or os.sched_getaffinity(0))
    # The lines of a run are in its log.txt. Those of several runs at once would be a tangle.
    from cifar_models.runtime.log import log_to_screen, silence
    from cifar_models.runtime.onednn import choose_onednn
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow
    from cifar_models.runtime.signals import Interruption, stop_request

    log_to_screen()
    silence(sys.stdout)
    choose_onednn(onednn)
    try:
        with stop_request():
            import_tensorflow()
            jobs.send(Ready())
            with contextlib.suppress(EOFError):  # the parent has closed the connection
                while True:
                    jobs.send(do_job(jobs.recv()))
    except Interruption as interruption:
        sys.exit(interruption.exit_status)


def do_job(job: Job) -> JobResult:
    """Train a run in this process, and return what became of it.

    Raises:
        Interruption: A signal asked this process to stop. The state of the run is saved.
    """
    from cifar_models.benchmark.isolated_process import current_memory
    from cifar_models.errors import Divergence
    from cifar_models.runtime.memory import MemoryShortage
    from cifar_models.runtime.signals import obey_stop
    from cifar_models.storage.atomic_files import FolderInUse, WriteError

    try:
        if job.data_sha256 and (problem := _other_data(job)):
            return JobResult(accuracy=None, problem=problem, is_refused=True)
        accuracy = _train_when_free(job)
    except Exception as error:
        obey_stop()  # the error may be what a library made of the stop
        return JobResult(
            accuracy=None,
            problem=str(error) or type(error).__name__,
            ends_all=isinstance(error, WriteError | FolderInUse),
            is_memory=isinstance(error, MemoryShortage),
            has_diverged=isinstance(error, Divergence),
            memory_bytes=current_memory(),
        )
    return JobResult(accuracy=accuracy, memory_bytes=current_memory())


_checked: set[str] = set()  # data and hashes that this process has compared


def _other_data(job: Job) -> str:
    """Return how the data of this machine differ from those of a job, or ""."""
    from cifar_models.config.recipe_file import parse_saved_recipe
    from cifar_models.data.dataset import data_sha256
    from cifar_models.data.load import load_dataset
    from cifar_models.errors import RequestError, RunError

    recipe = parse_saved_recipe(job.recipe, job.path / "recipe.toml")
    key = f"{recipe.data} {recipe.model.image_size} {job.data_sha256}"
    if key in _checked:
        return ""
    try:
        found = data_sha256(load_dataset(recipe))
    except (RequestError, RunError) as error:
        return f"{platform.node()}: {error}"
    if found != job.data_sha256:
        return f"{platform.node()}: has other images of {recipe.data.dataset}; copy them there"
    _checked.add(key)
    return ""


def _train_when_free(job: Job) -> float:
    """Train a run. If another process is using its folder, wait for it for a while.

    It may be a worker whose machine has just been taken for lost.
    """
    from cifar_models.runtime.signals import obey_stop
    from cifar_models.storage.atomic_files import FolderInUse

    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _train(job)
        except FolderInUse:
            obey_stop()
            if time.monotonic() > end:
                raise
            time.sleep(CHECK_SECONDS)


def _train(job: Job) -> float:
    """Train a run, and return its accuracy at its end or at its pause."""
    import keras

    from cifar_models.config.recipe_file import parse_saved_recipe
    from cifar_models.errors import Paused
    from cifar_models.evaluation.validation_accuracy import accuracy_after
    from cifar_models.run.resume import resume
    from cifar_models.run.train import train
    from cifar_models.storage.run_folder import RunFolder

    keras.backend.clear_session()
    folder = RunFolder(job.path)
    try:
        if folder.has_begun():
            metrics = resume(job.path, force=job.force, pause_after=job.pause_after)
        else:
            recipe = parse_saved_recipe(job.recipe, folder.recipe_path)
            metrics = train(recipe, job.path, job.split, job.force, job.pause_after)
        assert metrics  # only a process of TF_CONFIG may have none
        return metrics.accuracy
    except Paused:
        return accuracy_after(folder, job.pause_after)
