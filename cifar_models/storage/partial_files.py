"""What a killed process leaves in a run folder: the files that it was writing."""

import re
import stat
from pathlib import Path

from cifar_models.storage.atomic_files import PARTIAL
from cifar_models.storage.safe_open import entries_below

CHECKPOINT = re.compile(r"step-[0-9]{10,}\.safetensors")
# What a process may have been writing, relative to the run folder.
PARTIAL_FILE = re.compile(
    rf"(plots/|checkpoints/)?{re.escape(PARTIAL)}"
    rf"([a-z]+\.(json|toml|csv|npz|keras)|[a-z_]+\.png|{CHECKPOINT.pattern})"
)


def remove_partial_files(folder: Path) -> None:
    """Remove the files that a killed process was writing in a run folder."""
    for path, status in entries_below(folder):
        relative = path.relative_to(folder).as_posix()
        if PARTIAL_FILE.fullmatch(relative) and stat.S_ISREG(status.st_mode):
            path.unlink()
