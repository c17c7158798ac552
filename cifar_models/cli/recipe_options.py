"""The recipe that the options of a command ask for."""

import argparse

from cifar_models.config.recipe import Recipe


def read_recipe_of(options: argparse.Namespace, name: str) -> Recipe:
    """Return a recipe with the values of the options --set, --dataset, --seed and others."""
    from cifar_models.config.recipe_file import read_recipe, recipe_paths
    from cifar_models.config.toml_file import toml_text

    if options.dataset == "digits" and f"digits-{name}" in recipe_paths():
        print(f"{name}: using the recipe digits-{name} because of --dataset digits")
        name = f"digits-{name}"
    # A recipe may ask for XLA, with which no run is deterministic.
    overrides = ["runtime.xla=auto"] if getattr(options, "deterministic", False) else []
    overrides += options.set
    for key, value in (("dataset", options.dataset), ("data_dir", options.data_dir)):
        if value is not None:
            overrides.append(f"data.{key}={toml_text(value)}")
    for key in ("teacher", "start_from"):
        if (path := getattr(options, key, None)) is not None:
            overrides.append(f"training.{key}={toml_text(path)}")
    if options.seed is not None:
        overrides.append(f"runtime.seed={options.seed}")
    if getattr(options, "deterministic", False):
        overrides.append("runtime.deterministic=true")
    if getattr(options, "no_xla", False):
        overrides.append("runtime.xla=off")
    if getattr(options, "no_onednn", False):
        overrides.append("runtime.onednn=off")
    return read_recipe(name, overrides)
