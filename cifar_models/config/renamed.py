"""Names and behaviour of earlier versions.

A run folder may contain an old name. In a user's recipe, it causes an error that gives the new one.
A run folder without a newer key was trained by code that behaved as EARLIER_VALUES says.
"""

from dataclasses import fields

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.recipe import DataConfig, RuntimeConfig
from cifar_models.config.training import OPTIMIZERS, TrainingConfig

RENAMED_KEYS = {
    "model.mimetic_start": "model.mimetic_init",
    "augmentation.test_views": "augmentation.tta_views",
}
# Key of earlier versions that is gone → what takes its place.
REMOVED_KEYS = {"data.folder_image_size": "model.image_size, which also sets the size of images"}
RENAMED_ARCHITECTURES = {
    "hybrid": "cct2_3x2",
    "fast_cnn": "airbench94",
    "strong_cnn": "airbench96",
}

# Key of which the default is not what earlier versions did → what they did.
EARLIER_VALUES: dict[str, object] = {
    "model.padding": "same",
    "model.as_published": False,
    "training.momentum_form": "keras",
    "runtime.onednn": "auto",
    "data.resize": "stretch",
    "training.min_steps_per_epoch": 1,
}


def with_current_names(content: dict) -> dict:
    """Return the tables of a saved recipe with the current names, and with EARLIER_VALUES."""
    content = {
        name: dict(table) if isinstance(table, dict) else table for name, table in content.items()
    }
    for old, new in RENAMED_KEYS.items():
        table, _, key = old.partition(".")
        if isinstance(content.get(table), dict) and key in content[table]:
            content[table][new.partition(".")[2]] = content[table].pop(key)
    for removed in REMOVED_KEYS:
        table, _, key = removed.partition(".")
        if isinstance(content.get(table), dict):
            content[table].pop(key, None)
    if isinstance(content.get("search"), dict):
        content["search"] = {
            RENAMED_KEYS.get(key, key): entry for key, entry in content["search"].items()
        }
    model = content.get("model")
    if isinstance(model, dict) and isinstance(model.get("architecture"), str):
        model["architecture"] = current_architecture(model["architecture"])
    names = _name_in(content, "model", "architecture"), _name_in(content, "training", "optimizer")
    for key, value in earlier_values(*names).items():
        table, _, name = key.partition(".")
        if isinstance(content.setdefault(table, {}), dict):
            content[table].setdefault(name, value)
    return content


def _name_in(content: dict, table: str, key: str) -> object:
    values = content.get(table, {})
    return values.get(key) if isinstance(values, dict) else None


def earlier_values(architecture: object, optimizer: object) -> dict[str, object]:
    """Return the EARLIER_VALUES of the keys that a recipe reads.

    Args:
        architecture: Name of the architecture; None, or no name of one: the default.
        optimizer: The same of the optimizer.
    """
    model = ARCHITECTURES.get(str(architecture), ARCHITECTURES["residual_cnn"]).config
    reads = OPTIMIZERS.get(str(optimizer), OPTIMIZERS[TrainingConfig().optimizer]).reads
    read = {f"model.{each.name}" for each in fields(model)}
    tables = (("training", TrainingConfig), ("runtime", RuntimeConfig), ("data", DataConfig))
    for table, config in tables:
        read |= {f"{table}.{each.name}" for each in fields(config)}
    of_optimizers = set().union(*(each.reads for each in OPTIMIZERS.values()))
    read -= {f"training.{key}" for key in of_optimizers.difference(reads)}
    return {key: value for key, value in EARLIER_VALUES.items() if key in read}


def current_architecture(name: str) -> str:
    """Return the current name of an architecture."""
    return RENAMED_ARCHITECTURES.get(name, name)
