"""The commands that use a finished run: predict, explain, worst and export.

Each function takes the parsed options. Heavy modules are imported when they are used.
"""

import argparse
from importlib.util import find_spec

from cifar_models.errors import RequestError


def predict_command(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise RequestError(f"--top {options.top}: must be at least 1")
    from cifar_models.cli import prediction_output as output
    from cifar_models.run.load import load_run
    from cifar_models.serving.load_export import is_export, load_export

    if target := options.csv or options.json:
        output.check_target(target)
    model = load_export(options.run) if is_export(options.run) else load_run(options.run)
    predictions = output.checked(model.predict(options.inputs), options.strict)
    top = min(options.top, len(model.class_names))
    if options.csv:
        output.write_csv(predictions, top, options.csv)
    elif options.json:
        output.write_json(predictions, top, options.json)
    else:
        output.print_predictions(predictions, top)


def explain_command(options: argparse.Namespace) -> None:
    from cifar_models.run.load import load_run

    run = load_run(options.run)
    run.check_network()  # it imports TensorFlow quietly
    from cifar_models.cli.prediction_output import print_explanations
    from cifar_models.explain.explain_files import explain_files

    print_explanations(explain_files(run, options.inputs, options.out, options.label), options.out)


def export_command(options: argparse.Namespace) -> None:
    from cifar_models.serving.export import ExportCheck, export

    report = export(
        options.run,
        options.out,
        options.format,
        options.precision,
        options.calibrated,
        ExportCheck(options.dataset, options.data_dir, options.force),
    )
    print(
        f"{report.path}: {report.format}, {report.precision}, largest difference of a probability "
        f"{report.largest_difference:.2g}, {report.agreement:.1%} agreement on {report.images} "
        f"{report.source} images"
    )


def worst_command(options: argparse.Namespace) -> None:
    from cifar_models.run.load import load_run
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    run = load_run(options.run)
    import_tensorflow()
    from cifar_models.explain.worst_images import find_worst

    report = find_worst(run, options.out or run.path / "worst", options.count, options.data_dir)
    suspects = (
        "labels were not examined: pip install '.[labels]' in the folder of the project"
        if report.suspects is None
        else f"{report.num_suspects:,} labels that may be wrong"
    )
    print(f"{report.page}: {report.num_mistakes:,} mistakes; {suspects}")


def serve_command(options: argparse.Namespace) -> None:
    needed = ("starlette", "uvicorn", "httptools", "python_multipart", "prometheus_client")
    if missing := [name for name in needed if not find_spec(name)]:
        raise RequestError(
            f"serve: needs {', '.join(missing)}; install it: pip install '.[serve]' in the folder "
            "of the project"
        )
    if not 0 <= options.port <= 65535:
        raise RequestError(f"--port {options.port}: must be 0 to 65535")
    from cifar_models.server.serve import serve

    serve(options.models, options.port)
