"""The notebook runs without errors and warnings, and is committed with its outputs."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "cnn_vs_vit.ipynb"
MAX_BYTES = 1_500_000


@pytest.fixture
def notebook() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameter_cell(notebook: NotebookNode) -> NotebookNode:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return cell


def number_of_figures(notebook: NotebookNode) -> int:
    kinds = ("image/png", "image/svg+xml")
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum(kind in output.get("data", {}) for output in outputs for kind in kinds)


def check_outputs(notebook: NotebookNode) -> None:
    """The cells ran in order, without errors and warnings, and drew all figures."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output.text
    assert number_of_figures(notebook) == 11


@pytest.mark.parametrize(
    "override", ["EPOCHS, SEEDS = 1, [0]", pytest.param("", marks=pytest.mark.slow, id="complete")]
)
@pytest.mark.slow
def test_the_notebook_runs(notebook, override, tmp_path):
    folder = f"FOLDER = Path({str(tmp_path / 'runs')!r})"
    parameter_cell(notebook).source += f"\n{override}\n{folder}"
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": NOTEBOOK.parent}}
    )
    client.execute()
    check_outputs(notebook)
    assert (tmp_path / "runs" / "comparison" / "report.html").is_file()


def test_the_notebook_is_committed_with_its_outputs(notebook):
    check_outputs(notebook)
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_the_outputs_contain_no_absolute_paths(notebook):
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        texts = [output.get("text", "")]
        texts += [text for kind, text in output.get("data", {}).items() if kind != "image/png"]
        for text in texts:
            assert not re.search(r"""(?<![\w.:/<])/(?:\w[\w.-]*/)""", text), text


def test_the_cells_only_call_the_package(notebook):
    """Cells import, assign, loop and call, in at most five lines."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr, ast.For)
    for cell in code_cells(notebook):
        source = cell.source.removeprefix("%cd -q ..\n")
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.stmt) or isinstance(node, allowed), cell.source
            assert not isinstance(node, ast.Lambda | ast.IfExp | ast.comprehension), cell.source
        lines = [line for line in source.splitlines() if line and " import " not in line]
        assert len(lines) <= 5, cell.source


def test_the_links_resolve(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert links
    for target in links:
        assert (NOTEBOOK.parent / target).exists(), target


def test_the_make_targets_exist(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    mentioned = re.findall(r"`make ([a-z-]+)", text)
    assert mentioned
    assert set(mentioned) <= set(targets)
