"""Goes on with a run that was stopped or killed, if nothing that decides its result has changed."""

import logging
from pathlib import Path

from cifar_models.config.run_identity import fingerprints, refuse_differences
from cifar_models.data.dataset import describe
from cifar_models.data.load import load_dataset_of_run
from cifar_models.run.load import configure_for_run
from cifar_models.run.train import carry_out, training_session
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.run_folder import RunFolder

logger = logging.getLogger("cifar_models")


def resume(path: Path, data_dir: str | None = None) -> dict:
    """Goes on with a run that was stopped or killed; it ends as if nothing had happened.

    Args:
        path: of the run folder.
        data_dir: where TFDS keeps the data, if not where the recipe says.

    Returns:
        The content of metrics.json, also of a run that had finished.

    Raises:
        RequestError: no run folder; another recipe, classes or data than it began with; or
            another process trains there.
        RunError, Interruption: as `run`.
    """
    folder = RunFolder.open_begun(path)
    recipe = folder.read_recipe()
    if folder.is_finished():
        logger.info("%s: has finished", path)
        return folder.read_metrics()
    with training_session(folder) as stop:
        folder.remove_partial_files()
        folder.make_subfolders()  # a copy of the folder may have left out what was empty
        dataset = load_dataset_of_run(recipe.data, data_dir)
        splits = dataset.splits(recipe.data, recipe.runtime.seed)
        then = folder.read_fingerprints()
        evaluation_split = "validation" if then.get("evaluation_split") == "validation" else "test"
        now = fingerprints(recipe, describe(dataset, splits), evaluation_split)
        refuse_differences(path, then, now)
        import_tensorflow()
        runtime = configure_for_run(folder, recipe)
        return carry_out(recipe, dataset, splits, runtime, folder, evaluation_split, stop)
