"""Record a finished training: figures, TensorBoard events and metrics."""

import logging
from functools import partial

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables
from cifar_models.data.splits import Split
from cifar_models.storage.atomic_files import write_atomic
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog

logger = logging.getLogger("cifar_models")


def draw_figures(folder: RunFolder, network, split: Split, predictions, title: str) -> None:
    """Draws the run folder's four pictures."""
    from cifar_models.evaluation import figures as plots

    history, filters = folder.read_history(), f"first layer of {title}"
    for name, draw in {
        "curves": partial(plots.draw_curves, history, title),
        "confusion_matrix": partial(plots.draw_confusion_matrix, predictions, title),
        "first_layer": partial(plots.draw_first_layer, network, filters),
        "sample_predictions": partial(plots.draw_sample_predictions, split.images, predictions),
    }.items():
        write_atomic(folder.picture_path(name), draw)


def record_in_tensorboard(
    tensorboard: TensorBoardLog, folder: RunFolder, recipe: Recipe, metrics: dict
) -> None:
    """Adds the pictures, and the row of the HParams tab, at the last step."""
    step, split = metrics["steps"], metrics["split"]
    for name in ("confusion_matrix", "first_layer"):
        tensorboard.picture(name, step, folder.picture_path(name))
    tables = recipe_tables(recipe)
    values = {
        f"{table}.{key}": value
        for table in ("data", "model", "training", "augmentation", "runtime")
        for key, value in tables[table].items()
    }
    names = ("accuracy", "loss", "f1_macro", "roc_auc_macro", "expected_calibration_error")
    final = {f"final/{split}_{name}": metrics[name] for name in names if metrics[name] is not None}
    tensorboard.hyperparameters(step, values, final)
