"""The teacher of a run: another run, which is finished, whose network is a CNN."""

import logging
import shlex
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from cifar_models.config.model_tables import TransformerConfig
from cifar_models.config.recipe import Recipe
from cifar_models.data.splits import Split, Splits
from cifar_models.errors import RequestError
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.run.seen_images import has_seen_validation
from cifar_models.storage.records import DatasetInfo

if TYPE_CHECKING:
    from cifar_models.training.teacher_features import TeacherFeatures

logger = logging.getLogger("cifar_models")


def open_teacher(recipe: Recipe, data: DatasetInfo, splits: Splits) -> FinishedRun | None:
    """Open the teacher that a recipe names, or return None if it has none.

    Args:
        recipe: Recipe of the new run.
        data: Description of its data.
        splits: Its splits.

    Raises:
        RequestError: The recipe needs a teacher and names none; or the teacher is no finished run,
            is no CNN, has other classes or data, or has seen validation images of the new run.
    """
    if not recipe.training.teacher_weight:
        return None
    if not recipe.training.teacher:
        command = shlex.join(["train", "cnn-laptop", "--dataset", recipe.data.dataset])
        raise RequestError(
            f"{recipe.name}: needs a teacher; train one with: python -m cifar_models {command} "
            "--run DIR, and name it with --teacher DIR"
        )
    teacher = load_run(Path(recipe.training.teacher))
    if problem := _problem(teacher, recipe, data, splits):
        raise RequestError(f"{teacher.path}: cannot teach {recipe.name}: {problem}")
    return teacher


def _problem(teacher: FinishedRun, recipe: Recipe, data: DatasetInfo, splits: Splits) -> str:
    """Return why a finished run cannot teach a recipe, or "" if it can."""
    if isinstance(teacher.recipe.model, TransformerConfig):
        return f"it is a {teacher.recipe.architecture}; choose a run of a CNN"
    if teacher.dataset.class_names != data.class_names:
        return f"its classes are {teacher.dataset.class_names}, not {data.class_names}"
    if teacher.dataset.sha256 != data.sha256:
        return f"it was trained on other data than {data.name} is now"
    if teacher.dataset.train_images > data.train_images:
        return (
            f"it was trained on {teacher.dataset.train_images:,} images, and this run has "
            f"{data.train_images:,}; give both the same table [data]"
        )
    if has_seen_validation(teacher, recipe, data, splits):
        return (
            "it was trained on validation images of this run; set data.validation_fraction to 0, "
            "or give both the same seed and fraction"
        )
    return ""


def size_of_teacher_features(teacher: FinishedRun | None, train: Split) -> int:
    """Return the bytes of a teacher's features of the training images; 0 if there is no teacher."""
    if teacher is None:
        return 0
    from cifar_models.evaluation.feature_maps import feature_bytes
    from cifar_models.models.catalog import build_network, without_weights

    recipe, num_classes = teacher.recipe, len(teacher.dataset.class_names)

    def bytes_per_image() -> int:
        return feature_bytes(build_network(recipe.model, train.image_shape, num_classes))

    return without_weights(bytes_per_image) * len(train)


def compute_teacher_features(teacher: FinishedRun | None, train: Split) -> "TeacherFeatures | None":
    """Return a teacher's features of the training images, or None if there is no teacher.

    Call it after the process is configured: the teacher computes in the precision of this run.
    """
    if teacher is None:
        return None
    from cifar_models.evaluation.feature_maps import compute_feature_maps
    from cifar_models.models.test_time_augmentation import without_test_time_augmentation
    from cifar_models.training.teacher_features import TeacherFeatures

    began = perf_counter()
    network = without_test_time_augmentation(teacher.load_network())
    maps = compute_feature_maps(network, train)
    seconds = perf_counter() - began
    logger.info("features of the teacher %s: %.0f s", teacher.path, seconds)
    return TeacherFeatures(teacher.recipe.name, maps, teacher.metrics.train_seconds + seconds)
