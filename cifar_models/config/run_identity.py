"""The identity of a run: the recipe, classes and data that determine its result."""

from pathlib import Path

from cifar_models.config.paths import FOLDER, absolute_dataset, absolute_path
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_tables
from cifar_models.config.renamed import RENAMED_KEYS, current_architecture, earlier_values
from cifar_models.errors import RequestError

# Keys that do not change the result, or only its last bits: environment.json has the kernels.
KEYS_WITHOUT_EFFECT = (
    "data.data_dir",
    "data.storage",
    "runtime.checkpoint_seconds",
    "runtime.steps_per_execution",
    "runtime.data_on_device",
    "runtime.devices",
    "runtime.onednn",
    "training.tuning_trials",
)
FOLDER_KEYS = ("data.resize", "data.bad_files")  # which only a folder of images reads
MAX_DIFFERENCES_SHOWN = 3  # in one error message


def fingerprints(
    recipe: Recipe,
    class_names: list[str],
    data_sha256: str,
    evaluation_split: str,
    weights_sha256: dict[str, str | None] | None = None,
) -> dict:
    """Return the content of fingerprints.json.

    Args:
        recipe: Recipe of the run.
        class_names: Names of the classes.
        data_sha256: Hash of the data, as `dataset.json` has it.
        evaluation_split: Split on which the finished run is evaluated.
        weights_sha256: "teacher_sha256" and "start_sha256" → hash of the weights of earlier runs.
    """
    return {
        "evaluation_split": evaluation_split,
        "recipe": identifying_values(recipe),
        "class_names": class_names,
        "data_sha256": data_sha256,
        **(weights_sha256 or {}),
    }


def identifying_values(recipe: Recipe) -> dict:
    """Return `table.key` → value for every key on which the result depends."""
    values: dict = {"name": recipe.name}
    for table, content in recipe_tables(recipe).items():
        if isinstance(content, dict) and table != "search":
            values |= {f"{table}.{key}": value for key, value in content.items()}
    values["data.dataset"] = _same_everywhere(values["data.dataset"])
    for key in ("training.teacher", "training.start_from"):
        values[key] = values[key] and absolute_path(values[key])
    is_folder = recipe.data.dataset.startswith(FOLDER)
    without_effect = KEYS_WITHOUT_EFFECT if is_folder else KEYS_WITHOUT_EFFECT + FOLDER_KEYS
    return {key: value for key, value in values.items() if key not in without_effect}


def recipe_differences(then: dict, now: dict) -> list[str]:
    """Return one phrase for each value that differs between a recipe and a run.

    Args:
        then: Fingerprints of the run.
        now: Identifying values of the recipe.
    """
    values = {RENAMED_KEYS.get(key, key): value for key, value in then.get("recipe", {}).items()}
    if "model.architecture" in values:
        values["model.architecture"] = current_architecture(values["model.architecture"])
    if isinstance(folder := values.get("data.dataset"), str):  # earlier versions wrote it as given
        values["data.dataset"] = _same_everywhere(folder)
    if values:  # not if there are no fingerprints at all
        # A key that is newer than the run had its default, or what earlier versions did.
        earlier = earlier_values(values.get("model.architecture"), values.get("training.optimizer"))
        values = now | earlier | values
    return [
        f"{key} was {values.get(key)!r} and is {value!r}"
        for key, value in now.items()
        if values.get(key) != value
    ]


def summarize(differences: list[str]) -> str:
    """Return the first differences in one line, with the number of the remaining ones."""
    more = (
        f" and {len(differences) - MAX_DIFFERENCES_SHOWN} more"
        if len(differences) > MAX_DIFFERENCES_SHOWN
        else ""
    )
    return "; ".join(differences[:MAX_DIFFERENCES_SHOWN]) + more


def refuse_differences(path: Path, then: dict, now: dict) -> None:
    """Raise RequestError if the recipe, the classes or the data of a run have changed.

    Args:
        path: Path of the run folder.
        then: Fingerprints in the run folder.
        now: Fingerprints of what would be resumed.
    """
    differences = recipe_differences(then, now["recipe"])
    if then.get("class_names") != now["class_names"]:
        differences.append(
            f"the classes were {then.get('class_names')} and are {now['class_names']}"
        )
    elif then.get("data_sha256") != now["data_sha256"]:
        differences.append(
            f"the data's SHA-256 began with {str(then.get('data_sha256'))[:12]} and begins with "
            f"{now['data_sha256'][:12]}"
        )
    for key, what in (("teacher_sha256", "teacher"), ("start_sha256", "run to start from")):
        if then.get(key) != now.get(key):
            differences.append(f"the weights of the {what} have changed")
    if differences:
        raise RequestError(
            f"{path}: cannot be resumed: {summarize(differences)}; undo the change, or train a new "
            "run"
        )


def _same_everywhere(dataset: str) -> str:
    """Return the name of a data set with its absolute path, if it has one on this machine."""
    try:
        return absolute_dataset(dataset)
    except RequestError:  # the home folder of a user of another machine
        return dataset
