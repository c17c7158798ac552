"""What a user may type."""

import argparse
from pathlib import Path
from typing import NoReturn

from cifar_models import __version__
from cifar_models.errors import RequestError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here."""

    def error(self, message: str) -> NoReturn:
        self.exit(RequestError.exit_status, f"error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser; what it parses has the name of the command as `command`."""
    parser = _Parser(
        prog="python -m cifar_models",
        description="Choose, train, compare and ship small image classifiers with Keras.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    train = commands.add_parser("train", help="train a recipe and record the run")
    _add_recipe(train)
    train.add_argument("--run", type=Path, metavar="DIR", help="run folder (default: under runs/)")
    train.add_argument("--seed", type=int, metavar="N", help="runtime.seed")
    train.add_argument("--deterministic", action="store_true", help="same bytes out every time")
    train.add_argument("--no-xla", action="store_true", help="compile without XLA on a GPU too")

    resume = commands.add_parser("resume", help="go on with a run that was stopped or killed")
    resume.add_argument("run", type=Path, metavar="RUN")
    resume.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")

    evaluate = commands.add_parser("evaluate", help="measure a finished run once more")
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument("--dataset", metavar="NAME", help="instead of the run's own")
    evaluate.add_argument(
        "--split", choices=["train", "validation", "test"], default="test", help="default: test"
    )
    evaluate.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    evaluate.add_argument(
        "--corruptions", action="store_true", help="instead: on corrupted images and on noise"
    )
    evaluate.add_argument(
        "--images", type=int, metavar="N", help="of --corruptions: so many, spread over all"
    )

    tune = commands.add_parser("tune", help="search the ranges that a recipe declares")
    _add_recipe(tune)
    tune.add_argument("--trials", type=int, default=20, metavar="N", help="in all (default: 20)")
    tune.add_argument(
        "--budget-seconds", type=float, metavar="S", help="begin no trial after so long"
    )
    tune.add_argument("--out", type=Path, required=True, metavar="DIR", help="goes on if it exists")
    tune.add_argument("--seed", type=int, metavar="N", help="runtime.seed")

    compare = commands.add_parser("compare", help="set finished runs against each other")
    compare.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or one that holds some"
    )
    compare.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the page")

    study = commands.add_parser("study", help="run what is missing of a declared study; compare")
    study.add_argument(
        "study", metavar="STUDY", help="a name under experiments/studies/, or a TOML file"
    )
    study.add_argument("--out", type=Path, metavar="DIR", help="default: runs/study-NAME")

    export = commands.add_parser("export", help="write a finished run's model for serving")
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("--format", choices=["saved_model"], default="saved_model")
    export.add_argument("--out", type=Path, metavar="PATH", help="default: RUN/export")
    export.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")

    benchmark = commands.add_parser("benchmark", help="speed of training, cost of serving")
    benchmark.add_argument("subjects", nargs="+", metavar="RUN_OR_RECIPE", help="a folder is a run")
    benchmark.add_argument("--dataset", metavar="NAME", help="data.dataset of the recipes")
    benchmark.add_argument("--data-dir", metavar="DIR", help="data.data_dir of the recipes")
    _add_overrides(benchmark)
    benchmark.set_defaults(seed=None)

    listing = commands.add_parser("list", help="what there is to choose from")
    listing.add_argument("what", choices=["recipes", "models", "datasets", "runs"])
    listing.add_argument(
        "--under", type=Path, default=Path("runs"), metavar="DIR", help="of runs (default: runs)"
    )
    return parser


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a name under experiments/, or a TOML file"
    )
    parser.add_argument("--dataset", metavar="NAME", help="TFDS name, digits or folder:PATH")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data")
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of the recipe, as in --set training.epochs=5",
    )
