"""Study files, and the runs that they declare."""

import itertools
import math
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from cifar_models.config.keys import shown, shown_name, typed
from cifar_models.config.paths import as_argument, user_path
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import EXPERIMENTS, read_recipe
from cifar_models.config.toml_file import read_toml, toml_text
from cifar_models.errors import RequestError

STUDIES = EXPERIMENTS / "studies"
MAX_RUNS = 1000  # of one study

# Keys of a recipe that a study varies → key of the study. No override may set them.
VARIED_KEYS = {
    "data.dataset": "datasets",
    "data.train_fraction": "train_fractions",
    "runtime.seed": "seeds",
}


@dataclass(frozen=True)
class Study:
    """The content of a study file. Every combination of the first four lists is one run.

    Attributes:
        recipes: Names of recipes or paths of recipe files.
        seeds: Values of runtime.seed.
        datasets: Values of data.dataset. Empty: the data set of each recipe.
        train_fractions: Values of data.train_fraction.
        overrides: "table.key=value" of every run.
        robustness_images: Number of test images in a robustness measurement. None: all of them.
    """

    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...] = ()
    train_fractions: tuple[float, ...] = (1.0,)
    overrides: tuple[str, ...] = ()
    robustness_images: int | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A run that a study declares.

    Attributes:
        recipe: The resolved recipe.
        dataset: Name of the folder of its data set.
        path: Path of its run folder.
        arguments: Arguments of the command `train`, except --run.
    """

    recipe: Recipe
    dataset: str
    path: Path
    arguments: list[str]


def read_study(name_or_path: str) -> Study:
    """Read a study file.

    Args:
        name_or_path: Name of a file in experiments/studies/, or path of a file.

    Raises:
        RequestError: There is no such file, it is not TOML, or its content is not valid.
    """
    known = {path.stem: path for path in sorted(STUDIES.glob("*.toml"))}
    path = known.get(name_or_path) or user_path(name_or_path)
    if not path.is_file():
        raise RequestError(f"study {name_or_path!r}: neither a file nor one of {', '.join(known)}")
    return _checked_study(read_toml(path), path)


def _checked_study(content: dict, path: Path) -> Study:
    """Return the study of a file; raise RequestError if its content is not valid."""
    keys = [field.name for field in fields(Study)]
    if unknown := set(content) - set(keys):
        raise RequestError(
            f"{path}: unknown key {shown_name(min(unknown))}; a study has {', '.join(keys)}"
        )
    for key in ("recipes", "seeds"):
        if not content.get(key):
            raise RequestError(f"{path}: {key} must be a list that is not empty")
    types = {**typing.get_type_hints(Study), "robustness_images": int}
    study = Study(
        **{key: typed(value, types[key], f"{path}: {key}") for key, value in content.items()}
    )
    if study.robustness_images is not None and study.robustness_images < 1:
        raise RequestError(f"{path}: robustness_images must be at least 1")
    for override in study.overrides:
        if varied := VARIED_KEYS.get(override.partition("=")[0].strip()):
            raise RequestError(f"{path}: override {override!r}: set it in {varied} instead")
    return study


def plan_runs(study: Study, out: Path) -> Iterator[PlannedRun]:
    """Yield every run of a study.

    All runs of one seed come before those of the next. If a study is stopped early, every recipe
    therefore has about the same number of runs.

    Args:
        study: The study.
        out: Folder of the study.

    Raises:
        RequestError: A recipe does not exist, an override does not fit it, or two runs would have
            the same path.
    """
    paths: set[Path] = set()
    lists = (study.seeds, study.train_fractions, study.recipes, study.datasets or (None,))
    if (count := math.prod(map(len, lists))) > MAX_RUNS:
        raise RequestError(f"the study declares {count:,} runs, more than {MAX_RUNS:,}; split it")
    for seed, fraction, recipe, dataset in itertools.product(*lists):
        overrides = [*study.overrides, f"data.train_fraction={fraction}"]
        if dataset:
            overrides.append(f"data.dataset={toml_text(dataset)}")
        resolved = read_recipe(recipe, [*overrides, f"runtime.seed={seed}"])
        folder_name = resolved.data.dataset.replace(":", "-").replace("/", "-")
        if not re.match(r"\w", folder_name):  # ".." would be a folder outside of `out`
            raise RequestError(f"dataset {shown(folder_name)}: no data set has such a name")
        run_name = f"{resolved.name}-{fraction:g}-{seed}"
        path = user_path(str(out / folder_name / "runs" / run_name))
        if path in paths:
            raise RequestError(
                f"recipe {recipe}: two runs of the study would be {path}; remove one, or give a "
                "copy of the recipe another name (name = … in its first line)"
            )
        paths.add(path)
        arguments = [as_argument(recipe), "--seed", str(seed)]
        for override in overrides:
            arguments += ["--set", override]
        yield PlannedRun(resolved, folder_name, path, arguments)
