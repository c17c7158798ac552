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
from cifar_models.data.recipe_fit import check_fits, with_fitting_batch
from cifar_models.data.splits import Splits
from cifar_models.errors import RequestError
from cifar_models.run.earlier_runs import EarlierRuns, open_earlier_runs
from cifar_models.run.load import FinishedRun
from cifar_models.run.teacher import size_of_teacher_features
from cifar_models.runtime.device import configure, let_gpu_memory_grow
from cifar_models.runtime.environment import environment
from cifar_models.runtime.log import add_to_file, log_to_file, remembered_lines
from cifar_models.runtime.memory import memory_for_training
from cifar_models.runtime.onednn import choose_onednn
from cifar_models.runtime.process_group import join_group
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.runtime.signals import Interruption, StopRequest, obey_stop, stop_request
from cifar_models.runtime.tf_config import rank_and_workers
from cifar_models.storage.atomic_files import WriteError, locked
from cifar_models.storage.disk_errors import with_way_on
from cifar_models.storage.open_run import create_run_folder, refuse_if_taken
from cifar_models.storage.records import RunMetrics
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog
from cifar_models.training.class_weights import class_weights
from cifar_models.training.run_context import RunContext, RunData


def train(
    recipe: Recipe,
    path: Path | str,
    evaluation_split: str = "test",
    force: bool = False,
    pause_after: int = 0,
) -> RunMetrics | None:
    """Train a recipe, and record the run in a new folder.

    The evaluation split is predicted once, after training. If it is "validation", of the test
    images only hashes are computed, to identify the data.

    Args:
        recipe: The recipe.
        path: Path of the run folder. It is created, and must be empty if it exists.
        evaluation_split: "test", or "validation" for a trial of a search, which has no figures.
        force: Whether to go on if memory seems too small.
        pause_after: Number of epochs after which the run is paused. 0: it is trained to its end.

    Returns:
        The content of metrics.json. None in a process of TF_CONFIG that is not the first one.

    Raises:
        RequestError: The recipe does not fit the data or the memory, or the folder holds files.
        RunError: The data cannot be loaded, training diverged, or a file cannot be written.
        Interruption: Ctrl-C or SIGTERM. `resume` continues the run.
        Paused: The run is paused. `resume` continues it.
    """
    recipe = recipe.with_absolute_paths()
    toml = recipe_toml(recipe)
    refuse_if_taken(Path(path), toml)
    begin_process(recipe)
    with remembered_lines() as lines, memory_for_training(force):
        dataset = load_dataset(recipe)
        splits = dataset.splits(recipe.data, recipe.runtime.seed)
        fitted = with_fitting_batch(recipe, splits.train)
        check_fits(fitted, splits.train)
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
        folder.write_fingerprints(  # last: it marks that training begins
            fingerprints(recipe, info.class_names, info.sha256, evaluation_split, earlier.hashes())
        )
        data = RunData(dataset, splits, evaluation_split)
        tensorboard = TensorBoardLog(folder.tensorboard_path)
        context = RunContext(fitted, data, runtime, folder, tensorboard, stop, pause_after)
        return run_to_end(context, earlier)


def begin_process(recipe: Recipe) -> None:
    """Choose the kernels, and connect this process with the others of the run, if there are any.

    Raises:
        RequestError: Several processes cannot train the recipe.
        RunError: The processes cannot be connected.
    """
    choose_onednn(recipe.runtime.onednn)
    _, workers = rank_and_workers()
    if len(workers) < 2:
        return
    if recipe.training.budget_seconds:
        raise RequestError(
            f"{recipe.name}: training.budget_seconds cannot be shared by several processes; set "
            "training.epochs instead"
        )
    import_tensorflow()
    let_gpu_memory_grow()
    join_group()


def check_memory(
    recipe: Recipe, dataset: Dataset, splits: Splits, teacher: FinishedRun | None
) -> None:
    """Raise RequestError if less memory is left than training takes. Call it before `configure`."""
    from cifar_models.training.memory import refuse_training_that_does_not_fit

    num_classes = len(dataset.class_names)
    feature_bytes = size_of_teacher_features(teacher, splits.train)
    refuse_training_that_does_not_fit(recipe, splits.train, num_classes, feature_bytes)


def run_to_end(context: RunContext, earlier: EarlierRuns) -> RunMetrics | None:
    """Train from the newest checkpoint in the folder, if any, to the end; predict and record.

    Returns:
        The content of metrics.json; None in a process that is not the first one of its run.
    """
    from cifar_models.run.group_run import join_run
    from cifar_models.run.prepare import prepare
    from cifar_models.run.record import predict, record, save_model
    from cifar_models.training.fit import fit
    from cifar_models.training.group_fit import loss_of_process_in_words
    from cifar_models.training.memory import out_of_memory_in_words

    with (
        log_to_file(context.folder.log_path),
        out_of_memory_in_words(context.recipe, lambda: "before or after training"),
        loss_of_process_in_words(context),
        closing(context.tensorboard),
    ):
        context = join_run(context)
        prepared = prepare(context, earlier)
        report = fit(prepared.trainer, prepared.validate, context)
        obey_stop()
        if context.runtime.group and context.runtime.group.rank:
            return None
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
