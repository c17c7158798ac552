"""The house stands: imports go down only, and rooms of one floor do not know each other."""

import ast
from pathlib import Path

import cifar_models

PACKAGE = Path(cifar_models.__file__).parent

# From the roof to the ground. A room may import rooms of lower floors, and itself.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"sweeps"},
    {"benchmark", "comparison"},
    {"serving", "explain"},
    {"run"},
    {"evaluation", "training"},
    {"models", "optimizers"},
    {"layers", "augmentation", "data"},
    {"storage", "runtime"},
    {"config"},
    {"errors"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def source_files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def test_every_room_has_a_floor():
    assert {room_of(path) for path in source_files()} == set(FLOOR)


def test_imports_go_down():
    for path in source_files():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "cifar_models" or len(parts) < 2 or parts[1] not in FLOOR:
                continue
            room, imported = room_of(path), parts[1]
            assert room == imported or FLOOR[room] < FLOOR[imported], f"{path} imports {name}"


def test_each_heavy_library_has_one_door():
    doors = {
        "keras_tuner": {"sweeps/tuning.py", "sweeps/search_space.py"},
        "sklearn.metrics": {"evaluation/metrics.py"},
        "matplotlib": {
            "evaluation/figures.py",
            "comparison/figures.py",
            "comparison/figure_style.py",
            "explain/figures.py",
        },
        "tensorflow_datasets": {"data/tfds.py"},
    }
    for library, allowed in doors.items():
        users = {
            path.relative_to(PACKAGE).as_posix()
            for path in source_files()
            if any(f"{name}.".startswith(f"{library}.") for name in imports(path))
        }
        assert users == allowed, library


def test_keras_is_never_imported_through_tensorflow():
    for path in source_files():
        assert not any(name.startswith("tensorflow.keras") for name in imports(path)), path


def test_no_file_outgrows_its_room():
    for path in source_files():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 250, path
