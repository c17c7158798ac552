"""Finished runs become one page, a table and a conclusion."""

import shlex
from pathlib import Path

from cifar_models.runtime.quiet_tensorflow import import_tensorflow


def compare_runs(paths: list[Path], out: Path) -> str:
    """Writes the page of a comparison and returns it as Markdown.

    Args:
        paths: of run folders, or of folders that hold some.
        out: folder of report.html, comparison.md, comparison.csv and figures/.

    Raises:
        RequestError: runs that cannot be compared.
        RunError: the page cannot be written.
    """
    import_tensorflow()
    from cifar_models.comparison.comparison import compare
    from cifar_models.comparison.report import markdown, write_report
    from cifar_models.comparison.runs import read_runs

    comparison = compare(read_runs(paths))
    command = ["python", "-m", "cifar_models", "compare", *map(str, paths), "--out", str(out)]
    write_report(comparison, out, shlex.join(command))
    return f"{markdown(comparison)}\n{out / 'report.html'}"
