"""The commands. Each one calls one function of the package, and prints the result.

Heavy libraries are imported when a command needs them, so that `--help` is immediate.
"""

import argparse
import contextlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cifar_models.cli import serving_commands, sweep_commands
from cifar_models.cli.recipe_options import read_recipe_of
from cifar_models.config.paths import user_path
from cifar_models.errors import RequestError, RunError
from cifar_models.runtime.tf_config import VARIABLE, folder_of_this_process, rank_and_workers


def _train(options: argparse.Namespace) -> None:
    recipe = read_recipe_of(options, options.recipe)
    from cifar_models.config.recipe_file import recipe_toml
    from cifar_models.run.train import train
    from cifar_models.storage.open_run import refuse_if_taken

    dataset = recipe.data.dataset.replace(":", "-").replace("/", "-").strip("-")[-60:]
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{recipe.name}-{dataset}-seed{recipe.runtime.seed}"
    if options.run:
        # Also for a process that has a folder of its own, before it waits for the first one.
        refuse_if_taken(options.run, recipe_toml(recipe.with_absolute_paths()))
        with folder_of_this_process(options.run, is_begun=False) as path:
            train(recipe, path, force=options.force)
        return
    if len(rank_and_workers()[1]) > 1:
        raise RequestError(f"{VARIABLE}: the processes need the same run folder; add --run")
    had_runs = Path("runs").exists()
    path = _new_folder(Path("runs"), name)
    try:
        train(recipe, path, force=options.force)
    finally:
        with contextlib.suppress(OSError):  # they hold files, unless the request was wrong
            path.rmdir()
            if not had_runs:
                path.parent.rmdir()


def _new_folder(parent: Path, name: str) -> Path:
    """Create a folder of this name, or with a number behind it if the name is taken.

    If it cannot be created, `train` says why.
    """
    path, number = parent / name, 1
    with contextlib.suppress(OSError):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
                path = parent / f"{name}-{number}"
    return path


def _resume(options: argparse.Namespace) -> None:
    from cifar_models.run.resume import resume

    with folder_of_this_process(options.run, is_begun=True) as path:
        resume(path, options.data_dir, options.force, options.dataset)


def _evaluate(options: argparse.Namespace) -> None:
    from cifar_models.cli import tables

    if options.images is not None and not options.corruptions:
        raise RequestError("evaluate: --images needs --corruptions; add it")
    if options.corruptions and (options.dataset is not None or options.split != "test"):
        raise RequestError(
            "evaluate: --corruptions uses the run's own test images; leave out --dataset and "
            "--split"
        )
    if options.corruptions:
        from cifar_models.run.robustness import measure_robustness

        report = measure_robustness(options.run, options.data_dir, options.images)
        return tables.print_robustness(report)
    from cifar_models.run.evaluate import evaluate

    tables.print_evaluation(evaluate(options.run, options.dataset, options.data_dir, options.split))


def _check(options: argparse.Namespace) -> None:
    from cifar_models.cli import tables
    from cifar_models.evaluation.data_check import check_dataset

    check = check_dataset(options.dataset, options.out, options.image_size, options.data_dir)
    tables.print_data_check(check, options.out)
    if check.problems:
        kinds = (f"{kind} ({len(items):,})" for kind, items in check.problems.items())
        raise RunError(f"{options.dataset}: {'; '.join(kinds)}; {options.out} has the list")


def _compare(options: argparse.Namespace) -> None:
    from cifar_models.comparison.compare_runs import compare

    print(compare(options.runs, options.out, options.explain))


def _benchmark(options: argparse.Namespace) -> None:
    paths = {name: user_path(name) for name in options.subjects}
    runs = [path for path in paths.values() if path.is_dir()]
    names = [name for name, path in paths.items() if not path.is_dir()]
    recipes = [read_recipe_of(options, name) for name in names]
    if runs and (options.set or options.dataset or options.data_dir):
        raise RequestError(
            f"{runs[0]}: is a run folder; --set, --dataset and --data-dir apply to recipes only, "
            "leave them out"
        )
    if recipes and options.runtime:
        raise RequestError(f"--runtime: applies to run folders, and {names[0]} is a recipe")
    from cifar_models.benchmark.runtime_cost import check_runtimes, measure_runtimes
    from cifar_models.benchmark.serving_cost import measure_serving_costs
    from cifar_models.benchmark.training_speed import measure_training_speeds
    from cifar_models.cli import cost_tables

    runtimes = check_runtimes(options.runtime or [])
    if runs:
        cost_tables.print_serving_costs(measure_serving_costs(runs))
        costs = measure_runtimes(runs, runtimes)
        cost_tables.print_runtimes(costs)
        for path, found in costs.items():
            if missing := [name for name in options.runtime or [] if name not in found.runtimes]:
                raise RunError(f"{path}: could not be measured in {', '.join(missing)}")
    if recipes:
        cost_tables.print_training_speeds(measure_training_speeds(recipes))


def _list(options: argparse.Namespace) -> None:
    from cifar_models.cli import tables

    if options.under and options.what != "runs":
        raise RequestError(f"list {options.what}: --under applies to runs only; leave it out")
    if options.what == "runs":
        tables.print_runs(options.under or Path("runs"))
    else:
        {
            "recipes": tables.print_recipes,
            "models": tables.print_models,
            "datasets": tables.print_datasets,
        }[options.what]()


# Name → function of the parsed options.
COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "compare": _compare,
    "study": sweep_commands.study_command,
    "predict": serving_commands.predict_command,
    "explain": serving_commands.explain_command,
    "worst": serving_commands.worst_command,
    "serve": serving_commands.serve_command,
    "check": _check,
    "tune": sweep_commands.tune_command,
    "export": serving_commands.export_command,
    "benchmark": _benchmark,
    "list": _list,
}
