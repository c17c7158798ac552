"""Train, compare and ship small image classifiers with Keras.

`run/train.py` turns a recipe into a run folder, and everything else reads run folders. Start
reading there.

The functions below are the Python interface. They are imported when they are first used, so that
importing this package imports neither TensorFlow nor Keras.
"""

import cifar_models.runtime.process_clock  # noqa: F401  (starts the clock of `process_seconds`)

# Ctrl-C prints Python's traceback until `__main__` runs, so nothing else is imported before it.
TYPE_CHECKING = False  # type checkers take this name as true

if TYPE_CHECKING:
    from cifar_models.comparison.compare_runs import compare
    from cifar_models.config.recipe_file import read_recipe
    from cifar_models.data.load import load_dataset
    from cifar_models.run.evaluate import evaluate
    from cifar_models.run.load import load_run
    from cifar_models.run.resume import resume
    from cifar_models.run.train import train
    from cifar_models.serving.export import export
    from cifar_models.serving.load_export import load_export
    from cifar_models.sweeps.tuning import tune

__version__ = "0.1.0"

# Public name → "module:function".
_FUNCTIONS = {
    "read_recipe": "cifar_models.config.recipe_file:read_recipe",
    "load_dataset": "cifar_models.data.load:load_dataset",
    "train": "cifar_models.run.train:train",
    "resume": "cifar_models.run.resume:resume",
    "load_run": "cifar_models.run.load:load_run",
    "evaluate": "cifar_models.run.evaluate:evaluate",
    "compare": "cifar_models.comparison.compare_runs:compare",
    "tune": "cifar_models.sweeps.tuning:tune",
    "export": "cifar_models.serving.export:export",
    "load_export": "cifar_models.serving.load_export:load_export",
}

__all__ = [
    "compare",
    "evaluate",
    "export",
    "load_dataset",
    "load_export",
    "load_run",
    "read_recipe",
    "resume",
    "train",
    "tune",
]


def __getattr__(name: str):
    from pkgutil import resolve_name

    if name in _FUNCTIONS:
        return resolve_name(_FUNCTIONS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS])
