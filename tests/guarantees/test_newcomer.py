"""The first steps of the README with a folder of photographs, typed as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## Your own folder in five minutes"


def blocks() -> list[list[str]]:
    """Return the lines of each block of the section: the commands, then what they print."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    return [block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", section, re.S)]


def without_digits_of_results(line: str) -> str:
    """Replace numbers with decimals, which differ between processors, and widths of columns."""
    return " ".join(re.sub(r"[0-9]+\.[0-9]+", "#", line).split())


@pytest.mark.slow
def test_the_commands_of_the_readme_print_what_it_shows(tmp_path):
    commands, *printed = blocks()
    assert commands[0] == "source .venv/bin/activate" and len(commands) == 5
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    output = ""
    for command in commands[1:]:
        result = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        output += result.stdout
    lines = {without_digits_of_results(line) for line in output.splitlines()}
    for block in printed:
        for line in block:
            assert without_digits_of_results(line) in lines, line
    assert "accuracy 1.0" in output or "accuracy 0.9" in output
    for name in ("check/contact_sheet.png", "runs/photographs/plots/confusion_matrix.png"):
        assert (tmp_path / name).is_file()
