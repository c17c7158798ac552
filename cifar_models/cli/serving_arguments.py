"""The arguments of the commands that use a finished run, such as `predict` and `export`."""

import argparse

from cifar_models.cli.options import (
    MOVED,
    add_data_dir,
    add_dataset,
    add_inputs,
    add_overrides,
    add_run,
    path_of,
)
from cifar_models.serving.formats import EXPORT_FORMATS, PRECISIONS


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=path_of, metavar="RUN_OR_EXPORT", help="a run folder, or an export"
    )
    add_inputs(parser)
    parser.add_argument(
        "--top", type=int, default=1, metavar="K", help="classes of each image (default: 1)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", type=path_of, metavar="FILE", help="write a CSV file instead")
    output.add_argument("--json", type=path_of, metavar="FILE", help="write a JSON file instead")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first file that cannot be read"
    )


def add_explain(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_inputs(parser)
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="class to explain (default: the predicted)"
    )
    parser.add_argument("--out", type=path_of, required=True, metavar="DIR", help="a new folder")


def add_worst(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--count", type=int, default=60, metavar="N", help="images of each kind (default: 60)"
    )
    parser.add_argument(
        "--out", type=path_of, metavar="DIR", help="folder of the page (default: RUN/worst)"
    )
    add_data_dir(parser)


def add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="+", type=path_of, metavar="RUN_OR_EXPORT", help="what to serve"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="TCP port; 0: a free one (default: 8000)",
    )


def add_export(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    default = next(iter(EXPORT_FORMATS))
    formats = "; ".join(f"{name}: {each.description}" for name, each in EXPORT_FORMATS.items())
    precisions = "; ".join(
        f"{name}: {', '.join(each.precisions)}" for name, each in EXPORT_FORMATS.items()
    )
    parser.add_argument(
        "--format",
        choices=list(EXPORT_FORMATS),
        default=default,
        help=f"{formats} (default: {default})".replace("%", "%%"),  # argparse formats it
    )
    parser.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        default=PRECISIONS[0],
        help=f"{precisions} (default: {PRECISIONS[0]})",
    )
    parser.add_argument(
        "--out",
        type=path_of,
        metavar="DIR",
        help="folder of the export (default: in RUN, such as RUN/export-onnx-int8)",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="divide the logits by the temperature that was fitted on validation images",
    )
    parser.add_argument(
        "--force", action="store_true", help="accept a precision that often disagrees with float32"
    )
    add_dataset(parser, MOVED)
    add_data_dir(parser)


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subjects", nargs="+", metavar="RUN_OR_RECIPE", help="a run folder, or a recipe"
    )
    parser.add_argument(
        "--runtime",
        action="append",
        metavar="NAME",
        help="for runs: keras, saved_model, onnx, litert or openvino, or one with a precision, "
        "such as litert-int8; may be repeated (default: those that are installed, in float32)",
    )
    add_overrides(parser)
    parser.set_defaults(seed=None)
