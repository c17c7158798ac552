"""Rules that find the caveats of a comparison, such as unequal training budgets."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from cifar_models.comparison.models import Model
from cifar_models.run.load import FinishedRun

MAX_IMAGES_RATIO = 1.5  # of the processed training images of two models
MAX_SECONDS_RATIO = 3.0  # of their training times, which vary more
MAX_NAMES = 10  # of classes in one sentence
MAX_CALIBRATION_GAP = 0.05  # between mean confidence and accuracy


def find_caveats(models: Sequence[Model]) -> Iterator[str]:
    """Yield one sentence for each caveat: first those of single models, then their differences."""
    for model in models:
        yield from _single_run(model)
        yield from _validation_split(model)
        yield from _missing_classes(model)
        yield from _calibration(model)
    yield from _test_images_in_train(models)
    yield from _selection_on_test_split(models)
    yield from _unequal_budgets(
        models, "number of processed training images", _images_processed, MAX_IMAGES_RATIO
    )
    yield from _unequal_budgets(models, "training time", _train_seconds, MAX_SECONDS_RATIO)
    yield from _different_settings(models)


def _single_run(model: Model) -> Iterator[str]:
    if len(model.runs) == 1:
        yield f"{model.name} was trained once, so the spread between seeds is unknown."


def _validation_split(model: Model) -> Iterator[str]:
    if model.runs[0].metrics.split != "test":
        yield (
            f"{model.name} was evaluated on the validation split, which also selected its best "
            "epoch."
        )


def _missing_classes(model: Model) -> Iterator[str]:
    names = np.array(model.runs[0].dataset.class_names)
    predicted = np.concatenate([run.probabilities.argmax(axis=1) for run in model.runs])
    counts = np.bincount(predicted, minlength=len(names))
    if missing := list(names[counts == 0]):
        more = f" and {len(missing) - MAX_NAMES:,} more classes" if len(missing) > MAX_NAMES else ""
        yield f"{model.name} never predicts {', '.join(missing[:MAX_NAMES])}{more}."


def _calibration(model: Model) -> Iterator[str]:
    confidence = np.mean([run.probabilities.max(axis=1).mean() for run in model.runs])
    accuracy = float(model.correct().mean())
    if abs(confidence - accuracy) > MAX_CALIBRATION_GAP:
        word = "overconfident" if confidence > accuracy else "underconfident"
        yield (
            f"{model.name} is {word}: its mean confidence is {confidence:.1%} and its accuracy is "
            f"{accuracy:.1%}."
        )


def _test_images_in_train(models: Sequence[Model]) -> Iterator[str]:
    datasets = [run.dataset for model in models for run in model.runs]
    shared = max(dataset.test_images_in_train for dataset in datasets)
    if shared:
        yield (
            f"{shared} of the {datasets[0].test_images} test images are also training images, so "
            "memorization raises the test accuracy."
        )


def _selection_on_test_split(models: Sequence[Model]) -> Iterator[str]:
    variants: dict[str, list[str]] = defaultdict(list)
    for model in models:
        variants[model.runs[0].recipe.architecture].append(model.name)
    is_test = models[0].runs[0].metrics.split == "test"
    for architecture, names in variants.items():
        if len(names) > 1 and is_test:
            yield (
                f"{', '.join(names)} are {architecture} with different settings. Choosing the best "
                "of them by this report means choosing on the test split; `evaluate --split "
                "validation` and `tune` choose on the validation split."
            )


def _unequal_budgets(
    models: Sequence[Model], what: str, budget_of: Callable[[Model], float], max_ratio: float
) -> Iterator[str]:
    budgets = {model.name: budget_of(model) for model in models}
    low, high = min(budgets, key=budgets.__getitem__), max(budgets, key=budgets.__getitem__)
    if budgets[high] > max_ratio * budgets[low]:
        yield (
            f"The training budgets differ: the {what} of {high} is "
            f"{budgets[high] / budgets[low]:.1f} times that of {low}."
        )


def _images_processed(model: Model) -> float:
    """Return the number of training images, counted in every epoch, mean over the runs."""
    counts = [
        run.metrics.steps * (run.metrics.batch_size or run.recipe.training.batch_size)
        for run in model.runs
    ]
    return float(np.mean(counts))


def _train_seconds(model: Model) -> float:
    return float(np.mean([run.metrics.train_seconds for run in model.runs]))


def _different_settings(models: Sequence[Model]) -> Iterator[str]:
    of_runs: dict[str, Callable[[FinishedRun], object]] = {
        "the input resolution in pixels": lambda run: run.recipe.model.image_size,
        "the number of test-time augmentation views": lambda run: run.recipe.augmentation.tta_views,
        "precision": lambda run: run.metrics.precision,
        "device": lambda run: run.metrics.device,
        "the version of Keras": lambda run: run.environment.packages.get("keras"),
    }
    trials = {model.name: {_tuning_trials(model)} for model in models}
    yield from _differences("the number of trials of the search that chose their settings", trials)
    for what, setting_of in of_runs.items():
        values = {model.name: {setting_of(run) for run in model.runs} for model in models}
        yield from _differences(what, values)
    yield from _differences(
        "the number of runs", {model.name: {len(model.runs)} for model in models}
    )


def _differences(what: str, values: Mapping[str, set]) -> Iterator[str]:
    """Say that models, or the runs of one, differ; `values` are those of all runs of a model."""
    listed = ", ".join(
        f"{name}: {' and '.join(sorted(map(str, found)))}" for name, found in values.items()
    )
    if len({frozenset(found) for found in values.values()}) > 1:
        yield f"The models differ in {what} ({listed})."
    elif any(len(found) > 1 for found in values.values()):
        yield f"The runs of each model differ in {what} ({listed})."


def _tuning_trials(model: Model) -> int:
    return max(run.recipe.training.tuning_trials for run in model.runs)
