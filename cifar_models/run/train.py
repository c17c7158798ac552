"""One run, in order: prepare, fit, predict, record. Start reading here.

recipe ──► data ──► network ──► fit ──► predictions ──► metrics ──► run folder
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import recipe_toml
from cifar_models.config.run_identity import fingerprints
from cifar_models.data.dataset import Dataset, describe, warn_of_odd_data
from cifar_models.data.duplicates import image_hashes
from cifar_models.data.load import load_dataset
from cifar_models.data.recipe_fit import check_fits, warn_of_many_tokens, with_fitting_batch
from cifar_models.data.splits import Splits
from cifar_models.run.earlier_runs import EarlierRuns, open_earlier_runs
from cifar_models.run.load import FinishedRun
from cifar_models.run.teacher import size_of_teacher_features
from cifar_models.runtime.device import Runtime, configure
from cifar_models.runtime.environment import environment
from cifar_models.runtime.log import add_to_file, log_to_file, remembered_lines
from cifar_models.runtime.memory import memory_for_training
from cifar_models.runtime.onednn import choose_onednn
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.runtime.signals import Interruption, StopRequest, obey_stop, stop_request
from cifar_models.storage.atomic_files import WriteError, locked
from cifar_models.storage.disk_errors import with_way_on
from cifar_models.storage.open_run import create_run_folder, refuse_if_taken
from cifar_models.storage.records import RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.class_weights import class_weights
from cifar_models.training.run_context import RunContext, RunData


def train(
    recipe: Recipe, path: Path | str, evaluation_split: str = "test", force: bool = False
) -> RunMetrics:
    """Train a recipe, and record the run in a new folder.

    The evaluation split is predicted once, after training. The test images are never predicted if
    the evaluation split is "validation"; only their hashes are computed, to identify the data.

    Args:
        recipe: The recipe.
        path: Path of the run folder. It is created, and must be empty if it exists.
        evaluation_split: "test", or "validation" for a trial of a search.
        force: Whether to go on if memory seems too small.

    Returns:
        The content of metrics.json.

    Raises:
        RequestError: The recipe does not fit the data or the memory, or the folder holds files.
        RunError: The data cannot be loaded, training diverged, or a file cannot be written.
        Interruption: Ctrl-C or SIGTERM. `resume` continues the run.
    """
    recipe = recipe.with_absolute_paths()
    toml = recipe_toml(recipe)
    refuse_if_taken(Path(path), toml)
    choose_onednn(recipe.runtime.onednn)
    with remembered_lines() as lines, memory_for_training(force):
        dataset = load_dataset(recipe)
        splits = dataset.splits(recipe.data, recipe.runtime.seed)
        fitted = with_fitting_batch(recipe, splits.train)
        check_fits(fitted, splits.train)
        warn_of_many_tokens(fitted)
        train_hashes = image_hashes(splits.train)
        info = describe(dataset, splits, train_hashes)
        warn_of_odd_data(info, splits)
        # Only to refuse the name of a class that does not exist, before the folder is made.
        class_weights(recipe.training.class_weights, splits.train.labels, dataset.class_names)
        earlier = open_earlier_runs(recipe, info, splits)
        import_tensorflow()  # takes seconds, so wrong requests are refused before it
        check_memory(fitted, dataset, splits, earlier.teacher)
    folder = create_run_folder(Path(path), toml)
    with training_session(folder) as stop:
        runtime = configure(recipe.runtime)
        folder.write_recipe(toml)
        folder.write(environment(runtime))
        folder.write(info)
        folder.write_training_hashes(train_hashes)
        add_to_file(folder.log_path, lines)
        identity = fingerprints(
            recipe, info.class_names, info.sha256, evaluation_split, earlier.hashes()
        )
        folder.write_fingerprints(identity)  # last: it marks that training begins
        data = RunData(dataset, splits, evaluation_split)
        return run_to_end(fitted, data, runtime, folder, stop, earlier)


def check_memory(
    recipe: Recipe, dataset: Dataset, splits: Splits, teacher: FinishedRun | None
) -> None:
    """Raise RequestError if less memory is left than training takes. Call it before `configure`."""
    from cifar_models.training.memory import refuse_training_that_does_not_fit

    num_classes = len(dataset.class_names)
    feature_bytes = size_of_teacher_features(teacher, splits.train)
    refuse_training_that_does_not_fit(recipe, splits.train, num_classes, feature_bytes)


def run_to_end(
    recipe: Recipe,
    data: RunData,
    runtime: Runtime,
    folder: RunFolder,
    stop: StopRequest,
    earlier: EarlierRuns,
) -> RunMetrics:
    """Train from the newest checkpoint in the folder, if any, to the end; predict and record."""
    from cifar_models.run.prepare import prepare
    from cifar_models.run.record import predict, record, save_model
    from cifar_models.training.fit import fit
    from cifar_models.training.memory import out_of_memory_in_words

    with (
        log_to_file(folder.log_path),
        out_of_memory_in_words(recipe, lambda: "before or after training"),
        closing(TensorBoardLog(folder.tensorboard_path)) as tensorboard,
    ):
        context = RunContext(recipe, data, runtime, folder, tensorboard, stop)
        prepared = prepare(context, earlier)
        report = fit(prepared.trainer, prepared.validate, context)
        obey_stop()
        save_model(prepared, context)
        obey_stop()
        predicted = predict(prepared, context)
        obey_stop()
        return record(prepared, report, predicted, context)


@contextmanager
def training_session(folder: RunFolder) -> Iterator[StopRequest]:
    """Lock a run folder, handle signals, and add to errors how to resume the run."""
    try:
        with locked(folder.path), stop_request() as stop:
            yield stop
            stop.raise_if_requested()
    except WriteError as error:
        if folder.path.is_dir():
            raise with_way_on(error, folder.resume_command()) from error
        gone = f"{error}; the run folder and its checkpoints are gone"
        raise WriteError(gone, names_way_on=True) from error
    except Interruption as interruption:
        if folder.is_finished():
            interruption.args = (f"interrupted; the run is finished: {folder.path}",)
        elif folder.has_begun() and folder.resume_command() not in str(interruption):
            interruption.args = (f"interrupted; resume with: {folder.resume_command()}",)
        raise
