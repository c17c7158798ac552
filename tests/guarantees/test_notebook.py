"""The notebooks run without errors and warnings, and are committed with their outputs."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
FIGURES = {"cnn_vs_vit": 11, "cifar10": 9}  # number of figures in each notebook
MAX_BYTES = 1_500_000


def read(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.fixture(params=FIGURES)
def name(request) -> str:
    return request.param


@pytest.fixture
def notebook(name) -> NotebookNode:
    return read(name)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameter_cell(notebook: NotebookNode) -> NotebookNode:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return cell


def number_of_figures(notebook: NotebookNode) -> int:
    kinds = ("image/png", "image/svg+xml")
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum(kind in output.get("data", {}) for output in outputs for kind in kinds)


def check_outputs(notebook: NotebookNode, name: str) -> None:
    """The cells ran in order, without errors and warnings, and drew all figures."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output.text
    assert number_of_figures(notebook) == FIGURES[name]


def execute(notebook: NotebookNode, settings: str) -> None:
    """Run the cells, with `settings` behind the cell of the parameters."""
    parameter_cell(notebook).source += f"\n{settings}"
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": NOTEBOOKS}})
    client.execute()


def test_every_notebook_is_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(FIGURES)


@pytest.mark.parametrize(
    "override", ["EPOCHS, SEEDS = 1, [0]", pytest.param("", marks=pytest.mark.slow, id="complete")]
)
@pytest.mark.slow
def test_the_notebook_that_trains_runs(override, tmp_path):
    notebook = read("cnn_vs_vit")
    execute(notebook, f"{override}\nFOLDER = Path({str(tmp_path / 'runs')!r})")
    check_outputs(notebook, "cnn_vs_vit")
    assert (tmp_path / "runs" / "comparison" / "report.html").is_file()


def test_the_notebook_of_records_gives_the_committed_text(tmp_path):
    notebook, committed = read("cifar10"), read("cifar10")
    execute(notebook, f"FOLDER = Path({str(tmp_path / 'comparison')!r})")
    check_outputs(notebook, "cifar10")
    assert texts(notebook) == texts(committed)


def texts(notebook: NotebookNode) -> list[str]:
    """Return what the cells print and show as Markdown, without the path of the report."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    found = [
        output.get("text") or output.get("data", {}).get("text/markdown", "") for output in outputs
    ]
    return [re.sub(r"\S+/report\.html", "", text) for text in found]


def test_the_notebook_is_committed_with_its_outputs(notebook, name):
    check_outputs(notebook, name)
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < MAX_BYTES


def test_the_outputs_contain_no_absolute_paths(notebook):
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        texts = [output.get("text", "")]
        texts += [text for kind, text in output.get("data", {}).items() if kind != "image/png"]
        for text in texts:
            text = re.sub(r"base64,[\w+/=\s]+", "", text)  # a picture in an SVG
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
        assert (NOTEBOOKS / target).exists(), target


def test_the_make_targets_exist(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    mentioned = re.findall(r"`make ([a-z-]+)", text)
    assert mentioned
    assert set(mentioned) <= set(targets)
