"""What a reviewer would object to, found by rule."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from cifar_models.comparison.models import Model

UNEQUAL = 1.5  # one budget is so many times the other
MISCALIBRATED = 0.05  # between mean confidence and accuracy


def find_caveats(models: Sequence[Model]) -> Iterator[str]:
    """Yields sentences about one model, then about what sets several apart."""
    for model in models:
        yield from _about_one(model)
    yield from _test_split_seen(models)
    yield from _unequal(models, "training images seen", _images_seen, UNEQUAL)
    yield from _unequal(models, "training seconds", _train_seconds, 2 * UNEQUAL)
    for what, value in (
        ("trials of the search that chose their settings", _tuning_trials),
        ("resolution in pixels", lambda model: model.runs[0].recipe.model.image_size),
        ("views of a test image", lambda model: model.runs[0].recipe.augmentation.tta_views),
        ("precision", lambda model: model.runs[0].metrics["precision"]),
        ("device", lambda model: model.runs[0].metrics["device"]),
        ("number of runs", lambda model: len(model.runs)),
        ("version of Keras", _keras_version),
    ):
        values = {model.name: value(model) for model in models}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name}: {value}" for name, value in values.items())
            yield f"The models differ in {what} ({listed})."


def _about_one(model: Model) -> Iterator[str]:
    if len(model.runs) == 1:
        yield f"{model.name} was trained once: nothing is known of the spread between seeds."
    if model.runs[0].metrics["split"] != "test":
        yield f"{model.name} is measured on the validation split, which chose its best epoch."
    names = np.array(list(model.runs[0].metrics["per_class"]))
    predicted = np.concatenate([run.probabilities.argmax(axis=1) for run in model.runs])
    counts = np.bincount(predicted, minlength=len(names))
    if missing := list(names[counts == 0]):
        yield f"{model.name} never predicts {', '.join(missing)}."
    confidence = np.mean([run.probabilities.max(axis=1).mean() for run in model.runs])
    accuracy = float(model.correct().mean())
    if abs(confidence - accuracy) > MISCALIBRATED:
        word = "overconfident" if confidence > accuracy else "less sure than it could be"
        yield (
            f"{model.name} is {word}: on average it is sure of {confidence:.1%} and right "
            f"in {accuracy:.1%}."
        )


def _test_split_seen(models: Sequence[Model]) -> Iterator[str]:
    datasets = [run.dataset for model in models for run in model.runs]
    # Older run folders do not say.
    shared = max(dataset.get("test_images_in_train", 0) for dataset in datasets)
    if shared:
        yield (
            f"{shared} of the {datasets[0]['test_images']} test images are training images too: "
            "whoever remembers them looks better than it is."
        )
    alike: dict[str, list[str]] = defaultdict(list)
    for model in models:
        alike[model.runs[0].recipe.architecture].append(model.name)
    for architecture, names in alike.items():
        if len(names) > 1:
            yield (
                f"{', '.join(names)} are {architecture} with other settings: whoever keeps the "
                "best of them for these figures chooses it on the test split. `evaluate --split "
                "validation` and `tune` choose on the validation split."
            )


def _unequal(models: Sequence[Model], what: str, value, factor: float) -> Iterator[str]:
    values = {model.name: value(model) for model in models}
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[high] > factor * values[low]:
        yield (
            f"The training budgets differ: {high} had {values[high] / values[low]:.1f} times the "
            f"{what} of {low}."
        )


def _images_seen(model: Model) -> float:
    return float(
        np.mean([run.metrics["steps"] * run.recipe.training.batch_size for run in model.runs])
    )


def _train_seconds(model: Model) -> float:
    return float(np.mean([run.metrics["train_seconds"] for run in model.runs]))


def _tuning_trials(model: Model) -> int:
    return max(run.recipe.training.tuning_trials for run in model.runs)


def _keras_version(model: Model) -> str:
    return str(model.runs[0].environment.get("packages", {}).get("keras"))
