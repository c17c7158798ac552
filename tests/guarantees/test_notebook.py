"""The notebook runs, and is committed as it ran."""

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


def parameters_of(notebook: NotebookNode) -> NotebookNode:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return cell


def pictures_of(notebook: NotebookNode) -> int:
    kinds = ("image/png", "image/svg+xml")
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum(kind in output.get("data", {}) for output in outputs for kind in kinds)


def assert_ran_in_order_without_a_word_of_trouble(notebook: NotebookNode) -> None:
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output.text
    assert pictures_of(notebook) == 11


@pytest.mark.parametrize(
    "shorter", ["EPOCHS, SEEDS = 1, [0]", pytest.param("", marks=pytest.mark.slow, id="whole")]
)
def test_the_notebook_runs(notebook, shorter, tmp_path):
    folder = f"FOLDER = Path({str(tmp_path / 'runs')!r})"
    parameters_of(notebook).source += f"\n{shorter}\n{folder}"
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": NOTEBOOK.parent}}
    )
    client.execute()
    assert_ran_in_order_without_a_word_of_trouble(notebook)
    assert (tmp_path / "runs" / "comparison" / "report.html").is_file()


def test_it_is_committed_as_it_ran(notebook):
    assert_ran_in_order_without_a_word_of_trouble(notebook)
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_it_names_no_folder_of_a_machine(notebook):
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        texts = [output.get("text", "")]
        texts += [text for kind, text in output.get("data", {}).items() if kind != "image/png"]
        for text in texts:
            assert not re.search(r"""(?<![\w.:/<])/(?:\w[\w.-]*/)""", text), text


def test_it_has_no_logic_of_its_own(notebook):
    """Its cells import, assign, loop and call; a cell is no longer than a glance."""
    plain = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr, ast.For)
    for cell in code_cells(notebook):
        source = cell.source.removeprefix("%cd -q ..\n")
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.stmt) or isinstance(node, plain), cell.source
            assert not isinstance(node, ast.Lambda | ast.IfExp | ast.comprehension), cell.source
        lines = [line for line in source.splitlines() if line and " import " not in line]
        assert len(lines) <= 5, cell.source


def test_its_links_lead_somewhere(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert links
    for target in links:
        assert (NOTEBOOK.parent / target).exists(), target


def test_its_make_targets_exist(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    mentioned = re.findall(r"`make ([a-z-]+)", text)
    assert mentioned
    assert set(mentioned) <= set(targets)
