"""Finished runs become one page, a table and a conclusion."""

import shlex
from pathlib import Path

from cifar_models.runtime import import_tensorflow


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
    from cifar_models.evaluation.compared_runs import read_runs
    from cifar_models.evaluation.comparison import compare
    from cifar_models.evaluation.report import markdown, write_report

    comparison = compare(read_runs(paths))
    command = ["python", "-m", "cifar_models", "compare", *map(str, paths), "--out", str(out)]
    write_report(comparison, out, shlex.join(command))
    return f"{markdown(comparison)}\n{out / 'report.html'}"
