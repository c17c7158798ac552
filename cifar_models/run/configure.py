"""The configuration of a process for a run that another process may have begun."""

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.errors import RequestError
from cifar_models.runtime.device import Runtime, configure
from cifar_models.storage.records import Environment
from cifar_models.storage.run_folder import RunFolder


def configure_for_run(folder: RunFolder, recipe: Recipe) -> Runtime:
    """Configure this process like the one that trained a run, and return its settings.

    The recorded precision replaces "auto", which depends on the device.

    Args:
        folder: The run folder.
        recipe: The recipe of the run.

    Raises:
        RequestError: environment.json is damaged.
    """
    precision = folder.read(Environment).precision
    try:
        return configure(with_values(recipe, {"runtime.precision": precision}).runtime)
    except RequestError as error:
        raise RequestError(f"{folder.path / 'environment.json'}: {error}") from None
