"""The documentation agrees with the code: links, make targets, tables and named tests."""

import re
from pathlib import Path

import pytest

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.documentation import keys_markdown
from cifar_models.config.recipe_file import recipe_paths
from tests.guarantees.test_code_structure import LAYERS
from tests.models.test_models import GOLDEN

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOCUMENTS += [ROOT / "experiments/LOG.md", *sorted(ROOT.glob("experiments/records/**/README.md"))]
DOCUMENTS += sorted(ROOT.glob("docs/*.md"))
MAX_README_LINES = 150


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows_of(name: str, header: str) -> list[list[str]]:
    """Return the cells of the table that has this header, without the header."""
    lines = iter(text_of(name).splitlines())
    assert any(line == header for line in lines), f"{name} has no table {header}"
    next(lines)  # the line of dashes
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def links_of(text: str) -> list[str]:
    """Return the targets of the links and images in Markdown that lead to files."""
    return re.findall(r"\]\((?!http)([^)]+)\)", text)


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as a Markdown viewer makes them."""
    headings = [line.lstrip("#") for line in path.read_text().splitlines() if line.startswith("#")]
    return {heading.strip().lower().replace(" ", "-") for heading in headings}


def test_the_page_of_recipe_keys_is_up_to_date():
    assert text_of("docs/recipe_keys.md") == keys_markdown()


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_resolves(document):
    for link in links_of(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_readme_links_every_page_of_the_documentation():
    linked = {link.partition("#")[0] for link in links_of(text_of("README.md"))}
    assert {f"docs/{path.name}" for path in (ROOT / "docs").iterdir()} <= linked


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_make_target_exists(document):
    reads = [line for line in text_of("Makefile").splitlines() if line.startswith("READS_")]
    targets = {line.removeprefix("READS_").partition(" ")[0] for line in reads}
    mentioned = re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.M)
    assert set(mentioned) <= targets


def test_every_preset_is_in_the_table_with_its_size():
    rows = rows_of("docs/recipes.md", "| architecture | description | parameters |")
    sizes = {name.strip("`"): int(size.split()[0].replace(",", "")) for name, _, size in rows}
    assert sizes == {name: GOLDEN[name][0] for name in ARCHITECTURES}


def test_every_recipe_is_in_the_table():
    rows = rows_of("docs/recipes.md", "| recipe | made for |")
    assert {name.strip("`") for row in rows for name in row[0].split(", ")} == set(recipe_paths())


def test_every_guarantee_names_tests_that_exist():
    rows = rows_of("docs/guarantees.md", "| promise | tests |")
    assert len(rows) > 10
    for promise, tests in rows:
        _, *links = tests.split("](")
        assert links, promise
        for link in links:
            name, _, names = link.partition(")")
            text = (ROOT / "docs" / name).read_text()
            found = [word for word in names.split("`") if word.startswith("test_")]
            assert found, promise
            for test in found:
                assert f"def {test}(" in text, test


def test_the_layout_lists_every_package_in_its_layer():
    rows = rows_of("CONTRIBUTING.md", "| layer | package | purpose |")
    listed: dict[int, set[str]] = {}
    for layer, package, _ in rows:
        name, _, link = package.strip("[)").partition("](")
        assert Path(link).stem == name
        listed.setdefault(int(layer), set()).add(name)
    assert list(listed.values()) == [layer for layer in LAYERS if layer != {"__main__"}]
    folders = {path.parent.name for path in (ROOT / "cifar_models").glob("*/__init__.py")}
    assert {name for names in listed.values() for name in names} == folders | {"errors"}
