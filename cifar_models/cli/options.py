"""Options that several commands have, and the types of their values."""

import argparse
import math
from pathlib import Path
from typing import NoReturn

from cifar_models.config.paths import user_path
from cifar_models.errors import RequestError
from cifar_models.runtime.text import printable

MOVED = "data set of the run, if its folder has been moved; the images must be the same"


class OneLineErrors(argparse.ArgumentParser):
    """Argument parser whose errors are one line, like every other error of this package."""

    def error(self, message: str) -> NoReturn:
        text = printable(f"error: {message}; see {self.prog} --help")
        self.exit(RequestError.exit_status, f"{text}\n")


def path_of(text: str) -> Path:
    try:
        return user_path(text)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds_of(text: str) -> float:
    return _at_least_0(text, "a number of seconds")


def amount_of(text: str) -> float:
    return _at_least_0(text, "a number")


def _at_least_0(text: str, what: str) -> float:
    if not 0 <= (number := float(text)) < math.inf:  # NaN is not either
        raise argparse.ArgumentTypeError(f"{text}: must be {what}, at least 0")
    return number


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="name of a file in experiments/, or path of a file"
    )
    add_overrides(parser)


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=path_of, metavar="RUN", help="run folder")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", metavar="IMAGE_OR_FOLDER", help="an image file, or a folder of them"
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, metavar="N", help="override runtime.seed")


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="go on if memory seems too small")


def add_dataset(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--dataset", metavar="NAME", help=what)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder in which TensorFlow Datasets keeps its data"
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    what = (
        "override data.dataset: a name of TensorFlow Datasets, digits, folder:PATH or "
        "folder:TABLE.csv"
    )
    add_dataset(parser, what)
    add_data_dir(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, as in --set training.epochs=5",
    )
