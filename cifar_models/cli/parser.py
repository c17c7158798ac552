"""The commands and options of the command line."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from cifar_models import __version__
from cifar_models.config.paths import user_path
from cifar_models.errors import RequestError
from cifar_models.runtime.text import printable
from cifar_models.serving.formats import EXPORT_FORMATS


class _Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, like every other error of this package."""

    def error(self, message: str) -> NoReturn:
        text = printable(f"error: {message}; see {self.prog} --help")
        self.exit(RequestError.exit_status, f"{text}\n")


def _path(text: str) -> Path:
    try:
        return user_path(text)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < math.inf:  # NaN is not either
        raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds, at least 0")
    return seconds


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. The parsed options have the name of the command as `command`."""
    parser = _Parser(
        prog="python -m cifar_models",
        description="Choose, train, compare and ship small image classifiers with Keras.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in _COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help))
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_recipe(parser)
    parser.add_argument(
        "--run",
        type=_path,
        metavar="DIR",
        help="new run folder (default: runs/TIME-RECIPE-DATASET-seedN)",
    )
    _add_seed(parser)
    parser.add_argument(
        "--teacher", metavar="RUN", help="run of a CNN, for a recipe that learns from a teacher"
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
    _add_force(parser)


def _add_resume(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    _add_data_dir(parser)
    _add_force(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--dataset", metavar="NAME", help="data set to evaluate on (default: that of the run)"
    )
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        default="test",
        help="split of the data set (default: test)",
    )
    _add_data_dir(parser)
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


def _add_tune(parser: argparse.ArgumentParser) -> None:
    _add_recipe(parser)
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        help="number of trials, including earlier ones in the folder (default: 20)",
    )
    parser.add_argument(
        "--budget-seconds", type=_seconds, metavar="S", help="start no new trial after S seconds"
    )
    parser.add_argument(
        "--out",
        type=_path,
        required=True,
        metavar="DIR",
        help="folder of the search; an existing search is resumed",
    )
    _add_seed(parser)
    _add_force(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=_path,
        metavar="RUN",
        help="a run folder, or a folder of run folders",
    )
    parser.add_argument(
        "--out", type=_path, required=True, metavar="DIR", help="folder of the report"
    )


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="name of a file in experiments/studies/, or path of a file"
    )
    parser.add_argument(
        "--out", type=_path, metavar="DIR", help="folder of the study (default: runs/study-NAME)"
    )
    _add_force(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    default = next(iter(EXPORT_FORMATS))
    formats = "; ".join(f"{name}: {each.description}" for name, each in EXPORT_FORMATS.items())
    parser.add_argument(
        "--format",
        choices=list(EXPORT_FORMATS),
        default=default,
        help=f"{formats} (default: {default})".replace("%", "%%"),  # argparse formats it
    )
    parser.add_argument(
        "--out", type=_path, metavar="PATH", help="path of the model (default: RUN/export)"
    )
    _add_data_dir(parser)


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subjects", nargs="+", metavar="RUN_OR_RECIPE", help="a run folder, or a recipe"
    )
    _add_overrides(parser)
    parser.set_defaults(seed=None)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=["recipes", "models", "datasets", "runs"], help="what to list"
    )
    parser.add_argument(
        "--under",
        type=_path,
        default=Path("runs"),
        metavar="DIR",
        help="with runs: folder to search for runs (default: runs)",
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="name of a file in experiments/, or path of a file"
    )
    _add_overrides(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=_path, metavar="RUN", help="run folder")


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, metavar="N", help="override runtime.seed")


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="go on if memory seems too small")


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder in which TensorFlow Datasets keeps its data"
    )


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="override data.dataset: a name of TensorFlow Datasets, digits or folder:PATH",
    )
    _add_data_dir(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, as in --set training.epochs=5",
    )


class _Command(NamedTuple):
    """A command: one line of help, and the function that adds its arguments to a parser."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


_COMMANDS = {
    "train": _Command("train a recipe and record the run", _add_train),
    "resume": _Command("resume a run that was stopped or killed", _add_resume),
    "evaluate": _Command("evaluate a finished run again", _add_evaluate),
    "tune": _Command("search the ranges that a recipe declares", _add_tune),
    "compare": _Command("compare finished runs in a report", _add_compare),
    "study": _Command("train the missing runs of a study, and compare all of them", _add_study),
    "export": _Command("export the model of a finished run for serving", _add_export),
    "benchmark": _Command("measure training speed or serving cost", _add_benchmark),
    "list": _Command("list recipes, models, data sets or runs", _add_list),
}
