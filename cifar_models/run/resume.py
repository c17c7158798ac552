"""Resuming a run that was stopped or killed, if nothing that determines its result has changed."""

import logging
from pathlib import Path

from cifar_models.config.run_identity import fingerprints, refuse_differences
from cifar_models.data.dataset import describe
from cifar_models.data.load import load_dataset_of_run
from cifar_models.data.recipe_fit import with_fitting_batch
from cifar_models.run.configure import configure_for_run
from cifar_models.run.earlier_runs import open_earlier_runs
from cifar_models.run.train import begin_process, check_memory, run_to_end, training_session
from cifar_models.runtime.memory import memory_for_training
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.open_run import open_run
from cifar_models.storage.records import RunMetrics
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.run_context import RunContext, RunData

logger = logging.getLogger("cifar_models")


def resume(
    path: Path | str,
    data_dir: str | None = None,
    force: bool = False,
    dataset_name: str | None = None,
    pause_after: int = 0,
) -> RunMetrics | None:
    """Resume a run. Its result equals that of an uninterrupted run.

    Args:
        path: Path of the run folder.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        force: Whether to go on if memory seems too small.
        dataset_name: Name of the data set, if its folder has been moved. None: as in the recipe.
        pause_after: As for `train`.

    Returns:
        As for `train`. A finished run is not trained again.

    Raises:
        RequestError: The path is not a run folder; or the recipe, the classes or the data have
            changed; or another process is using the folder; or memory is too small.
        RunError, Interruption: As `train`.
    """
    folder = open_run(Path(path))
    recipe = folder.read_recipe()
    if folder.is_finished():
        logger.info("%s: the run is finished already", path)
        return folder.read(RunMetrics)
    begin_process(recipe)
    with memory_for_training(force), training_session(folder) as stop:
        folder.remove_partial_files()
        folder.make_subfolders()  # a copy of the folder may lack the empty ones
        dataset = load_dataset_of_run(recipe, data_dir, dataset_name)
        splits = dataset.splits(recipe.data, recipe.runtime.seed)
        then = folder.read_fingerprints()
        # Earlier versions wrote "measure_on".
        split = then.get("evaluation_split", then.get("measure_on"))
        data = RunData(dataset, splits, "validation" if split == "validation" else "test")
        info = describe(dataset, splits)
        earlier = open_earlier_runs(recipe, info, splits)
        now = fingerprints(
            recipe,
            info.class_names,
            info.sha256,
            data.evaluation_split,
            earlier.hashes(),
        )
        refuse_differences(Path(path), then, now)
        import_tensorflow()
        fitted = with_fitting_batch(recipe, splits.train)
        check_memory(fitted, dataset, splits, earlier.teacher)
        runtime = configure_for_run(folder, recipe)
        tensorboard = TensorBoardLog(folder.tensorboard_path)
        context = RunContext(fitted, data, runtime, folder, tensorboard, stop, pause_after)
        return run_to_end(context, earlier)
