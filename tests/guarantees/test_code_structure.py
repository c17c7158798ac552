"""The structure of the code: imports go down only, and files and functions stay small."""

import ast
from pathlib import Path

import pytest

import cifar_models

PACKAGE = Path(cifar_models.__file__).parent
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_LOOSE_FILES = 250, 60, 6, 4

# From top to bottom. A package may import packages of lower layers, and itself.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"sweeps"},
    {"workers"},
    {"benchmark", "comparison", "server"},
    {"serving", "explain"},
    {"run"},
    {"evaluation", "training"},
    {"models", "optimizers"},
    {"layers", "augmentation", "data"},
    {"runtime"},
    {"storage"},
    {"config"},
    {"errors"},
]
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(("cifar_models", *path.relative_to(PACKAGE).with_suffix("").parts))


def imports(path: Path) -> set[str]:
    """Return all imported names, including those that functions import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def source_files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def test_every_package_has_a_layer():
    assert {package_of(path) for path in source_files()} == set(LAYER)


def test_imports_go_down():
    for path in source_files():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "cifar_models" or len(parts) < 2 or parts[1] not in LAYER:
                continue
            package, imported = package_of(path), parts[1]
            assert package == imported or LAYER[package] < LAYER[imported], f"{path}: {name}"


def import_graph() -> dict[str, set[str]]:
    """Return module → imported modules of the package."""
    modules = {module_of(path) for path in source_files()}
    return {
        module_of(path): {
            module
            for name in imports(path)
            for module in (name, name.rpartition(".")[0])
            if module in modules
        }
        for path in source_files()
    }


def test_there_are_no_circular_imports():
    graph = import_graph()
    while leaves := {module for module, imported in graph.items() if not imported}:
        graph = {m: imported - leaves for m, imported in graph.items() if m not in leaves}
    assert not graph


def test_loading_a_run_does_not_import_the_trainer():
    graph, reached, new = import_graph(), set(), {"cifar_models.run.load"}
    while new:
        reached |= new
        new = set().union(*(graph[module] for module in new)) - reached
    assert "cifar_models.models.catalog" in reached
    assert not any(module.startswith("cifar_models.training") for module in reached)


def test_each_heavy_library_is_imported_in_few_places():
    allowed = {
        "keras_tuner": {"sweeps/chief.py", "sweeps/oracles.py", "sweeps/search_space.py"},
        "sklearn.metrics": {"evaluation/metrics.py"},
        "matplotlib": {
            "evaluation/contact_sheet.py",
            "evaluation/figures.py",
            "evaluation/figure_text.py",
            "comparison/figures.py",
            "comparison/figure_style.py",
            "comparison/robustness_figures.py",
            "explain/figures.py",
            "explain/map_figure.py",
            "sweeps/search_figures.py",
        },
        "tensorflow_datasets": {"data/tfds.py", "data/prepared_tfds.py"},
    }
    for library, places in allowed.items():
        users = {
            path.relative_to(PACKAGE).as_posix()
            for path in source_files()
            if any(f"{name}.".startswith(f"{library}.") for name in imports(path))
        }
        assert users == places, library


def test_keras_is_never_imported_through_tensorflow():
    for path in source_files():
        assert not any(name.startswith("tensorflow.keras") for name in imports(path)), path


def test_files_stay_short_and_in_packages():
    for path in source_files():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES, path
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_LOOSE_FILES


@pytest.mark.parametrize("path", source_files(), ids=module_of)
def test_functions_stay_short(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name
            arguments = node.args
            names = [
                a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            ]
            parameters = [name for name in names if name not in ("self", "cls")]
            assert len(parameters) <= MAX_PARAMETERS, node.name
