"""The run folder of a trial: making it, whether it is that of the trial, and a failure."""

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_toml
from cifar_models.config.run_identity import identifying_values, recipe_differences, summarize
from cifar_models.errors import RequestError
from cifar_models.storage.disk_errors import disk_errors
from cifar_models.storage.open_run import refuse_if_taken
from cifar_models.storage.records import Failure
from cifar_models.storage.run_folder import RunFolder
from cifar_models.sweeps.data_hashes import DataHashes

RESUME = "the same command resumes the search"


def make_trial_folder(folder: RunFolder, recipe: Recipe) -> None:
    """Make the folder of a trial, if the trial has not begun.

    Raises:
        RequestError: It holds other files.
    """
    if folder.has_begun():
        return
    try:
        refuse_if_taken(folder.path, recipe_toml(recipe))
    except RequestError:
        raise RequestError(
            f"{folder.path}: holds files that are not of this search; choose another --out"
        ) from None
    with disk_errors(folder.path, RESUME):
        folder.path.mkdir(exist_ok=True)


def refuse_other_trial(folder: RunFolder, recipe: Recipe, hashes: DataHashes) -> None:
    """Raise RequestError if a trial that has begun is of another recipe or of other data.

    Args:
        folder: Its folder.
        recipe: The recipe that it must have.
        hashes: Gives the hash of the data.
    """
    then = folder.read_fingerprints()
    if differences := recipe_differences(then, identifying_values(recipe)):
        raise RequestError(
            f"{folder.path}: is a trial of another search; choose another --out "
            f"({summarize(differences)})"
        )
    now = hashes.of(recipe)
    if any(key in then and then[key] != value for key, value in now.items()):
        raise RequestError(
            f"{folder.path}: was trained on other images or classes than {recipe.data.dataset} has "
            "now; restore them, or choose another --out"
        )


def record_failure(folder: RunFolder, recipe: Recipe, reason: str) -> None:
    """Write why a trial has failed, so that it is not trained again."""
    with disk_errors(folder.path, RESUME):
        if folder.path.is_dir():
            if not folder.has_begun():
                folder.write_recipe(recipe_toml(recipe))
            folder.write(Failure(reason=reason))
