"""The requirements are pinned with hashes, and `make requirements` renews them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("dev", "onnx", "litert", "openvino", "labels", "serve", "ray")
FILES = {"requirements.txt": EXTRAS, "requirements-gpu.txt": (*EXTRAS, "gpu")}


def pinned(name: str) -> dict[str, Requirement]:
    """Return the requirements of a file by name, and check that each has hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        requirement, *hashes = re.split(r"\s+--hash=", line)
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), line
        parsed = Requirement(requirement)
        (version,) = parsed.specifier
        assert version.operator == "==", line
        found[canonicalize_name(parsed.name)] = parsed
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_with_hashes_and_in_its_range(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in FILES[name] for text in project["optional-dependencies"][extra]]
    pins = pinned(name)
    for text in (*project["dependencies"], *extras):
        wanted = Requirement(text)
        (version,) = pins[canonicalize_name(wanted.name)].specifier
        assert version.version in wanted.specifier, f"{wanted}: run make requirements"


def test_both_files_pin_the_same_versions():
    gpu = pinned("requirements-gpu.txt")
    for name, requirement in pinned("requirements.txt").items():
        assert gpu[name] == requirement, f"{name}: run make requirements"


def test_the_files_name_the_target_that_renews_them():
    for name in FILES:
        assert "make requirements" in (ROOT / name).read_text().splitlines()[1]
    makefile = (ROOT / "Makefile").read_text()
    assert "pip install --quiet --disable-pip-version-check --require-hashes -r" in makefile
