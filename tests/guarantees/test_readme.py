"""The README says what is there."""

import re
from pathlib import Path

from cifar_models.config.model_presets import PRESETS
from tests.models.test_models import GOLDEN

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_preset_stands_in_the_table_with_its_size():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+)[^|]*\|$", README, re.MULTILINE))
    assert {name: int(count.replace(",", "")) for name, count in rows.items()} == {
        name: GOLDEN[name][0] for name in PRESETS
    }


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", README))
    assert mentioned - {"sure"} <= targets


def test_every_file_of_the_house_is_in_its_picture():
    picture = README.split("```\ncifar_models/")[1].split("```")[0]
    for path in (ROOT / "cifar_models").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert path.name in picture, path
    for name in re.findall(r"(\w+\.py)", picture):
        assert list((ROOT / "cifar_models").rglob(name)), name


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_promise_names_a_test_that_exists():
    rows = [line for line in README.splitlines() if "](tests/" in line and " `test_" in line]
    assert len(rows) > 10
    for row in rows:
        _, *parts = re.split(r"\]\((tests/\w+/\w+\.py)\)", row)  # file, what follows, file, …
        for path, behind in zip(parts[::2], parts[1::2], strict=True):
            names = re.findall(r"`(test_\w+)`", behind)
            assert names, path
            text = (ROOT / path).read_text()
            for name in names:
                assert f"def {name}(" in text, name
