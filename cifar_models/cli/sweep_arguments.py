"""The options of the commands that train many runs."""

import argparse

from cifar_models.cli.options import (
    add_force,
    add_overrides,
    add_seed,
    amount_of,
    path_of,
    seconds_of,
)
from cifar_models.config.search import ORACLES


def add_tune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE",
        help="names or TOML files; several share --budget-seconds and are compared",
    )
    add_overrides(parser)
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        help="number of trials, including earlier ones in the folder (default: 20)",
    )
    parser.add_argument(
        "--oracle",
        choices=ORACLES,
        help="bayesian: KerasTuner's Bayesian optimization; random: its random search; halving: "
        "successive halving of random trials (default: as the recipe says, or bayesian)",
    )
    _add_workers(parser, "trials")
    parser.add_argument(
        "--trial-seconds", type=seconds_of, metavar="S", help="a trial fails after S seconds"
    )
    parser.add_argument(
        "--budget-seconds", type=seconds_of, metavar="S", help="start no new trial after S seconds"
    )
    parser.add_argument(
        "--budget-flops",
        type=amount_of,
        metavar="F",
        help="start no new trial after F floating-point operations of training",
    )
    _add_confirmation(parser)
    parser.add_argument(
        "--out",
        type=path_of,
        required=True,
        metavar="DIR",
        help="folder of the search; an existing search is resumed",
    )
    add_seed(parser)
    add_force(parser)


def _add_confirmation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confirm",
        type=int,
        default=0,
        metavar="N",
        help="train the best recipe with N other seeds, and test it (default: 0)",
    )
    parser.add_argument(
        "--confirm-on-all",
        action="store_true",
        help="let the runs of --confirm train on the validation images too",
    )


def add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="name of a file in experiments/studies/, or path of a file"
    )
    parser.add_argument(
        "--out", type=path_of, metavar="DIR", help="folder of the study (default: runs/study-NAME)"
    )
    _add_workers(parser, "runs")
    add_force(parser)


def _add_workers(parser: argparse.ArgumentParser, runs: str) -> None:
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help=f"{runs} that are trained at once, on a part of the cores each (default: 1)",
    )
    parser.add_argument(
        "--on",
        type=_cluster_of,
        metavar="ray[://HOST:PORT]",
        help="train on a Ray cluster: that of this machine or a new one, or through Ray Client",
    )
    parser.add_argument(
        "--worker-cpus", type=int, metavar="N", help="with --on: CPUs of each worker (default: 1)"
    )
    parser.add_argument(
        "--worker-gpus",
        type=amount_of,
        metavar="N",
        help="with --on: GPUs of each worker, also a fraction (default: 0)",
    )


def _cluster_of(text: str) -> str:
    if text == "ray":
        return ""
    if text.startswith("ray://") and len(text) > len("ray://"):
        return text
    raise argparse.ArgumentTypeError(f"{text}: must be ray, or ray://HOST:PORT")
