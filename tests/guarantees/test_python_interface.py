"""The functions that `import cifar_models` offers: complete, lazy and documented."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cifar_models

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "python.md"

# Heavy packages that importing this one must not import.
HEAVY = ("tensorflow", "keras", "numpy", "sklearn", "matplotlib", "scipy")

IMPORT = """
import json, sys, time
began = time.perf_counter()
import cifar_models
print(json.dumps([time.perf_counter() - began, sorted(sys.modules)]))
"""


def test_importing_the_package_imports_nothing_heavy():
    seconds = []
    for _ in range(3):  # the fastest of three: the machine may be busy
        result = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True)
        duration, modules = json.loads(result.stdout)
        seconds.append(duration)
        assert not set(HEAVY) & set(modules)
    assert min(seconds) < 0.1


@pytest.mark.parametrize("name", cifar_models.__all__)
def test_every_function_is_there_documented_and_listed(name):
    function = getattr(cifar_models, name)
    assert inspect.isfunction(function) and inspect.getdoc(function)
    assert name in dir(cifar_models)
    assert f"`{name}(" in DOCUMENT.read_text()


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        cifar_models.trian  # noqa: B018


@pytest.mark.slow
def test_the_example_of_the_document_runs(tmp_path, monkeypatch, float32_policy):
    code = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "runs" / "cnn-1" / "metrics.json").is_file()
    assert (tmp_path / "runs" / "comparison" / "report.html").is_file()
