"""Resuming a run that was stopped or killed, if nothing that determines its result has changed."""

import logging
from pathlib import Path

from cifar_models.config.run_identity import fingerprints, refuse_differences
from cifar_models.data.dataset import describe
from cifar_models.data.load import load_dataset_of_run
from cifar_models.run.load import configure_for_run
from cifar_models.run.teacher import open_teacher, teacher_sha256
from cifar_models.run.train import check_memory, run_to_end, training_session
from cifar_models.runtime.memory import memory_for_training
from cifar_models.runtime.onednn import choose_onednn
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.open_run import open_run
from cifar_models.storage.records import RunMetrics
from cifar_models.training.run_context import RunData

logger = logging.getLogger("cifar_models")


def resume(path: Path | str, data_dir: str | None = None, force: bool = False) -> RunMetrics:
    """Resume a run. Its result equals that of an uninterrupted run.

    Args:
        path: Path of the run folder.
        data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.
        force: Whether to go on if memory seems too small.

    Returns:
        The content of metrics.json. A finished run is not trained again.

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
    choose_onednn(recipe.runtime.onednn)
    with memory_for_training(force), training_session(folder) as stop:
        folder.remove_partial_files()
        folder.make_subfolders()  # a copy of the folder may lack the empty ones
        dataset = load_dataset_of_run(recipe.data, data_dir)
        splits = dataset.splits(recipe.data, recipe.runtime.seed)
        then = folder.read_fingerprints()
        # Earlier versions wrote "measure_on".
        split = then.get("evaluation_split", then.get("measure_on"))
        data = RunData(dataset, splits, "validation" if split == "validation" else "test")
        info = describe(dataset, splits)
        teacher = open_teacher(recipe, info)
        now = fingerprints(
            recipe,
            info.class_names,
            info.sha256,
            data.evaluation_split,
            teacher_sha256(teacher),
        )
        refuse_differences(Path(path), then, now)
        import_tensorflow()
        check_memory(recipe, dataset, splits, teacher)
        runtime = configure_for_run(folder, recipe)
        return run_to_end(recipe, data, runtime, folder, stop, teacher)
