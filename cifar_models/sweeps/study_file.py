"""Study files: the runs that a study declares."""

import itertools
import logging
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import EXPERIMENTS, read_recipe
from cifar_models.errors import RequestError

logger = logging.getLogger("cifar_models")


STUDIES = EXPERIMENTS / "studies"


DECLARED = {  # what a study varies, so that no override may set it
    "data.dataset": "datasets",
    "data.train_fraction": "train_fractions",
    "runtime.seed": "seeds",
}


@dataclass(frozen=True)
class Study:
    """What experiments/studies/*.toml declares; every combination is one run."""

    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...] = ()  # none: each recipe's own
    train_fractions: tuple[float, ...] = (1.0,)
    overrides: tuple[str, ...] = ()  # "table.key=value", for every run
    robustness_images: int | None = None  # so many test images; none: all of them


@dataclass(frozen=True)
class StudyRun:
    recipe: Recipe
    dataset: str
    path: Path
    arguments: list[str]  # of `train`


def read_study(name_or_path: str) -> Study:
    """Reads a study by its name under experiments/studies/ or by the path of a TOML file.

    Raises:
        RequestError: no such study, not TOML, or something in it that no study has.
    """
    known = {path.stem: path for path in sorted(STUDIES.glob("*.toml"))}
    path = known.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise RequestError(f"study {name_or_path!r}: neither a file nor one of {', '.join(known)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not a TOML file: {error}") from None
    keys = [field.name for field in fields(Study)]
    if strange := set(content) - set(keys):
        raise RequestError(f"{path}: unknown key {min(strange)}; a study has {', '.join(keys)}")
    for key in ("recipes", "seeds"):
        if not content.get(key):
            raise RequestError(f"{path}: {key} must be a list that is not empty")
    images = content.pop("robustness_images", None)
    if images is not None and (type(images) is not int or images < 1):
        raise RequestError(f"{path}: robustness_images = {images!r} must be a positive integer")
    for key, value in content.items():
        if not isinstance(value, list):
            raise RequestError(f"{path}: {key} = {value!r} must be a list")
    for override in content.get("overrides", []):
        if declared := DECLARED.get(str(override).partition("=")[0].strip()):
            raise RequestError(f"{path}: override {override!r}: say it in {declared}")
    return Study(**{key: tuple(value) for key, value in content.items()}, robustness_images=images)


def planned_runs(study: Study, out: Path) -> Iterator[StudyRun]:
    """Yields every run of a study, the seeds outermost, so that a study cut short is balanced.

    Raises:
        RequestError: a recipe that does not exist, an override that it does not have, or two runs
            of one name.
    """
    paths: set[Path] = set()
    combinations = itertools.product(
        study.seeds, study.train_fractions, study.recipes, study.datasets or (None,)
    )
    for seed, fraction, recipe, dataset in combinations:
        overrides = [*study.overrides, f"data.train_fraction={fraction}"]
        if dataset:
            overrides.append(f"data.dataset='''{dataset}'''")
        resolved = read_recipe(recipe, [*overrides, f"runtime.seed={seed}"])
        named = resolved.data.dataset.replace(":", "-").replace("/", "-")
        path = out / named / "runs" / f"{resolved.name}-{fraction:g}-{seed}"
        if path in paths:
            raise RequestError(
                f"recipe {recipe}: two runs of the study would be {path}; leave one out, or give "
                "the recipe another name (name = … at the head of a copy)"
            )
        paths.add(path)
        arguments = [recipe, "--seed", str(seed)]
        for override in overrides:
            arguments += ["--set", override]
        yield StudyRun(resolved, named, path, arguments)
