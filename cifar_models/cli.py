"""The commands: parse, call one function, print.

Nothing heavy is imported before a command needs it, so `--help` answers at once.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from cifar_models import __version__
from cifar_models.errors import RequestError, RunError
from cifar_models.interruption import stop_request
from cifar_models.log import close_screen, log_to_screen


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    0 done, 2 the request was wrong, 1 the run failed, 130 or 143 stopped by Ctrl-C or SIGTERM.
    """
    options = _parser().parse_args(arguments)
    log_to_screen()
    try:
        with stop_request():
            options.command(options)
    except (RequestError, RunError) as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        return getattr(stop, "exit_status", 128 + signal.SIGINT)
    except BrokenPipeError:
        close_screen()  # the reader of a table left early
    except Exception as error:
        if os.environ.get("CIFAR_MODELS_TRACEBACK"):
            raise
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        return _fail(
            f"{type(error).__name__}: {reason} (set CIFAR_MODELS_TRACEBACK=1 and repeat for the "
            "traceback; the log.txt of a run has it too)",
            RunError.exit_status,
        )
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here."""

    def error(self, message: str) -> NoReturn:
        self.exit(RequestError.exit_status, f"error: {message}; see {self.prog} --help\n")


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m cifar_models",
        description="Choose, train, compare and ship small image classifiers with Keras.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a recipe and record the run")
    _add_recipe(train)
    train.add_argument("--run", type=Path, metavar="DIR", help="run folder (default: under runs/)")
    train.add_argument("--seed", type=int, metavar="N", help="runtime.seed")
    train.add_argument("--deterministic", action="store_true", help="same bytes out every time")
    train.add_argument("--no-xla", action="store_true", help="compile without XLA on a GPU too")
    train.set_defaults(command=_train)

    resume = commands.add_parser("resume", help="go on with a run that was stopped or killed")
    resume.add_argument("run", type=Path, metavar="RUN")
    resume.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    resume.set_defaults(command=_resume)

    evaluate = commands.add_parser("evaluate", help="measure a finished run once more")
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument("--dataset", metavar="NAME", help="instead of the run's own")
    evaluate.add_argument(
        "--split", choices=["train", "validation", "test"], default="test", help="default: test"
    )
    evaluate.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    evaluate.set_defaults(command=_evaluate)

    tune = commands.add_parser("tune", help="search the ranges that a recipe declares")
    _add_recipe(tune)
    tune.add_argument("--trials", type=int, default=20, metavar="N", help="in all (default: 20)")
    tune.add_argument(
        "--budget-seconds", type=float, metavar="S", help="begin no trial after so long"
    )
    tune.add_argument("--out", type=Path, required=True, metavar="DIR", help="goes on if it exists")
    tune.add_argument("--seed", type=int, metavar="N", help="runtime.seed")
    tune.set_defaults(command=_tune)

    compare = commands.add_parser("compare", help="set finished runs against each other")
    compare.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or one that holds some"
    )
    compare.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the page")
    compare.set_defaults(command=_compare)

    export = commands.add_parser("export", help="write a finished run's model for serving")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("--format", choices=["saved_model"], default="saved_model")
    export.add_argument("--out", type=Path, metavar="PATH", help="default: RUN/export")
    export.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    export.set_defaults(command=_export)

    benchmark = commands.add_parser("benchmark", help="speed of training, cost of serving")
    benchmark.add_argument("subjects", nargs="+", metavar="RUN_OR_RECIPE", help="a folder is a run")
    benchmark.add_argument("--dataset", metavar="NAME", help="data.dataset of the recipes")
    benchmark.add_argument("--data-dir", metavar="DIR", help="data.data_dir of the recipes")
    benchmark.set_defaults(command=_benchmark, set=[], seed=None)

    listing = commands.add_parser("list", help="what there is to choose from")
    listing.add_argument("what", choices=["recipes", "models", "datasets", "runs"])
    listing.add_argument(
        "--under", type=Path, default=Path("runs"), metavar="DIR", help="of runs (default: runs)"
    )
    listing.set_defaults(command=_list)
    return parser


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a name under experiments/, or a TOML file"
    )
    parser.add_argument("--dataset", metavar="NAME", help="TFDS name, digits or folder:PATH")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of the recipe, as in --set training.epochs=5",
    )


def _read_recipe(options: argparse.Namespace, name: str):
    from cifar_models.recipe_file import read_recipe

    overrides = list(options.set)
    for key, value in (("dataset", options.dataset), ("data_dir", options.data_dir)):
        if value is not None:
            overrides.append(f"data.{key}={_quoted(value)}")
    if options.seed is not None:
        overrides.append(f"runtime.seed={options.seed}")
    if getattr(options, "deterministic", False):
        overrides.append("runtime.deterministic=true")
    if getattr(options, "no_xla", False):
        overrides.append("runtime.xla=off")
    return read_recipe(name, overrides)


def _quoted(text: str) -> str:
    return "'''" + text + "'''"  # TOML: no escapes


def _train(options: argparse.Namespace) -> None:
    recipe = _read_recipe(options, options.recipe)
    from cifar_models.run import run

    dataset = recipe.data.dataset.replace(":", "-").replace("/", "-").strip("-")
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{recipe.name}-{dataset}-seed{recipe.runtime.seed}"
    run(recipe, options.run or Path("runs") / name)


def _resume(options: argparse.Namespace) -> None:
    from cifar_models.resume import resume

    resume(options.run, options.data_dir)


def _evaluate(options: argparse.Namespace) -> None:
    from cifar_models.evaluate import evaluate
    from cifar_models.tables import print_metrics

    print_metrics(evaluate(options.run, options.dataset, options.data_dir, options.split))


def _tune(options: argparse.Namespace) -> None:
    recipe = _read_recipe(options, options.recipe)
    if options.trials < 1:
        raise RequestError(f"--trials {options.trials}: must be at least 1")
    if not recipe.search:
        raise RequestError(
            f"recipe {recipe.name}: declares nothing to search; add a [search] table"
        )
    from cifar_models.runtime import import_tensorflow

    import_tensorflow()
    from cifar_models.tuning.search import search

    search(recipe, options.trials, options.out, options.budget_seconds)


def _compare(options: argparse.Namespace) -> None:
    from cifar_models.compare import compare_runs

    print(compare_runs(options.runs, options.out))


def _export(options: argparse.Namespace) -> None:
    from cifar_models.runtime import import_tensorflow

    import_tensorflow()
    from cifar_models.serving.export import export_saved_model

    report = export_saved_model(
        options.run, options.out or options.run / "export", options.data_dir
    )
    print(
        f"{report.path}: SavedModel, largest difference {report.largest_difference:.2g} "
        f"on {report.images} {report.source} images"
    )


def _benchmark(options: argparse.Namespace) -> None:
    runs = [Path(name) for name in options.subjects if Path(name).is_dir()]
    names = [name for name in options.subjects if not Path(name).is_dir()]
    recipes = [_read_recipe(options, name) for name in names]
    from cifar_models import benchmark, serving_cost, tables

    if runs:
        tables.print_costs(serving_cost.serving_costs(runs))
    if recipes:
        tables.print_benchmark([benchmark.benchmark(recipe) for recipe in recipes])


def _list(options: argparse.Namespace) -> None:
    from cifar_models import tables

    if options.what == "runs":
        tables.print_runs(options.under)
    else:
        {
            "recipes": tables.print_recipes,
            "models": tables.print_models,
            "datasets": tables.print_datasets,
        }[options.what]()
