"""The commands and options of the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cifar_models import __version__
from cifar_models.cli import serving_arguments, sweep_arguments
from cifar_models.cli.options import (
    MOVED,
    OneLineErrors,
    add_data_dir,
    add_dataset,
    add_force,
    add_recipe,
    add_run,
    add_seed,
    path_of,
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. The parsed options have the name of the command as `command`."""
    parser = OneLineErrors(
        prog="python -m cifar_models",
        description="Choose, train, compare and ship small image classifiers with Keras.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in _COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help))
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument(
        "--run",
        type=path_of,
        metavar="DIR",
        help="new run folder (default: runs/TIME-RECIPE-DATASET-seedN)",
    )
    add_seed(parser)
    parser.add_argument(
        "--teacher", metavar="RUN", help="run of a CNN, for a recipe that learns from a teacher"
    )
    parser.add_argument(
        "--from", dest="start_from", metavar="RUN", help="start from the weights of a finished run"
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="give the same result to the last byte every time (on a CPU)",
    )
    for option, help_text in (
        ("--no-xla", "do not compile with XLA, even on a GPU"),
        ("--no-onednn", "do not use the CPU kernels of oneDNN"),
    ):
        parser.add_argument(option, action="store_true", help=help_text)
    add_force(parser)


def _add_resume(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_dataset(parser, MOVED)
    add_data_dir(parser)
    add_force(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_dataset(parser, "data set to evaluate on (default: that of the run)")
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test", "all"],
        default="test",
        help="split of the data set (default: test; of another folder without splits: all)",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--corruptions",
        action="store_true",
        help="measure robustness to corrupted images and noise instead",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="with --corruptions: use N test images, spread evenly (default: all)",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="folder:PATH, or another data set")
    parser.add_argument(
        "--image-size",
        type=int,
        default=32,
        metavar="N",
        help="side to which images of a folder are resized, pixels (default: 32)",
    )
    parser.add_argument(
        "--out", type=path_of, default=Path("check"), metavar="DIR", help="folder (default: check)"
    )
    add_data_dir(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=path_of,
        metavar="RUN",
        help="a run folder, or a folder of run folders",
    )
    parser.add_argument(
        "--out", type=path_of, required=True, metavar="DIR", help="folder of the report"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="show where the models look in the images on which they disagree most",
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=["recipes", "models", "datasets", "runs"], help="what to list"
    )
    parser.add_argument(
        "--under",
        type=path_of,
        metavar="DIR",
        help="with runs: folder to search for runs (default: runs)",
    )


class _Command(NamedTuple):
    """A command: one line of help, and the function that adds its arguments to a parser."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


_COMMANDS = {
    "train": _Command("train a recipe and record the run", _add_train),
    "resume": _Command("resume a run that was stopped or killed", _add_resume),
    "evaluate": _Command("evaluate a finished run again", _add_evaluate),
    "predict": _Command(
        "classify image files with a finished run or an export", serving_arguments.add_predict
    ),
    "explain": _Command(
        "show what speaks for the class of image files", serving_arguments.add_explain
    ),
    "worst": _Command(
        "show the test images that a run gets most wrong", serving_arguments.add_worst
    ),
    "serve": _Command(
        "classify pictures in the browser of this computer", serving_arguments.add_serve
    ),
    "check": _Command("look for problems in a data set", _add_check),
    "tune": _Command("search the ranges that a recipe declares", sweep_arguments.add_tune),
    "compare": _Command("compare finished runs in a report", _add_compare),
    "study": _Command(
        "train the missing runs of a study, and compare all of them", sweep_arguments.add_study
    ),
    "export": _Command(
        "export the model of a finished run for serving", serving_arguments.add_export
    ),
    "benchmark": _Command(
        "measure training speed or serving cost", serving_arguments.add_benchmark
    ),
    "list": _Command("list recipes, models, data sets or runs", _add_list),
}
