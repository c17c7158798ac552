"""The comparison of finished runs as one function call."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cifar_models.config.paths import as_argument


def compare(paths: Sequence[Path | str], out: Path | str, explain: bool = False) -> str:
    """Compare finished runs, write the report, and return it as Markdown.

    Args:
        paths: Run folders, or folders that contain run folders.
        out: Folder for report.html, comparison.md, comparison.csv and figures/.
        explain: Whether to show where the models look. It needs the data and model.keras of the
            first run of each recipe.

    Raises:
        RequestError: The runs cannot be compared or explained, or the folder cannot be created.
        RunError: A file of the report cannot be written.
    """
    from cifar_models.comparison.comparison import analyze
    from cifar_models.comparison.report import write_report
    from cifar_models.comparison.runs import read_runs
    from cifar_models.comparison.tables import markdown

    out = Path(out)
    comparison = analyze(read_runs([Path(path) for path in paths]))
    arguments = [*map(as_argument, paths), "--out", as_argument(out)]
    arguments += ["--explain"] if explain else []
    command = ["python", "-m", "cifar_models", "compare", *arguments]
    write_report(comparison, out, shlex.join(command), explain)
    return f"{markdown(comparison)}\n{out / 'report.html'}"
