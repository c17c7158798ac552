"""The comparison of finished runs as one function call."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def compare(paths: Sequence[Path | str], out: Path | str) -> str:
    """Compare finished runs, write the report, and return it as Markdown.

    Args:
        paths: Run folders, or folders that contain run folders.
        out: Folder for report.html, comparison.md, comparison.csv and figures/.

    Raises:
        RequestError: The runs cannot be compared, or the folder cannot be created.
        RunError: A file of the report cannot be written.
    """
    from cifar_models.comparison.comparison import analyze
    from cifar_models.comparison.report import write_report
    from cifar_models.comparison.runs import read_runs
    from cifar_models.comparison.tables import markdown

    out = Path(out)
    comparison = analyze(read_runs([Path(path) for path in paths]))
    command = ["python", "-m", "cifar_models", "compare", *map(str, paths), "--out", str(out)]
    write_report(comparison, out, shlex.join(command))
    return f"{markdown(comparison)}\n{out / 'report.html'}"
