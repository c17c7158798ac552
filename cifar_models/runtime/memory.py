"""The memory that this process may still use, and the refusal of what needs more.

Linux ends a process that uses more memory than its machine or its cgroup (a container, a job of a
cluster) has, without a message. A need that is known beforehand is therefore compared with what is
left. Swap space does not count: a run that uses it is slower by orders of magnitude.
"""

import contextlib
import contextvars
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from cifar_models.errors import RequestError

# Kind of cgroup → its folder, and its files for the limit, the use, and the use in detail.
CGROUPS = {
    "v2": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "v1": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
# In memory.stat: cached files, which the kernel gives up when a process needs memory.
RECLAIMABLE = {
    "v2": ("inactive_file", "active_file"),
    "v1": ("total_inactive_file", "total_active_file"),
}


class MemoryShortage(RequestError):
    """Less memory is left than a request needs."""


# Of the memory: "reading" a data set, "training" on it too, or "forced", which refuses nothing.
_purpose = contextvars.ContextVar("purpose", default="reading")


@contextlib.contextmanager
def memory_for_training(force: bool) -> Iterator[None]:
    """Let memory be checked for training until the block ends.

    Args:
        force: Whether to refuse nothing, in blocks inside this one neither.
    """
    is_forced = force or _purpose.get() == "forced"
    token = _purpose.set("forced" if is_forced else "training")
    try:
        yield
    finally:
        _purpose.reset(token)


def is_for_training() -> bool:
    """Return whether memory is checked for training."""
    return _purpose.get() == "training"


def refuse_if_too_large(needed_bytes: float, what: str, fix: str) -> None:
    """Raise MemoryShortage if less memory is left than is needed.

    Args:
        needed_bytes: A lower bound of what is needed, so that nothing that fits is refused.
        what: What needs it, in the plural, as the start of a sentence: "folder:photos: 9 images".
        fix: What to change, such as "lower training.batch_size (512)".
    """
    available = available_bytes()
    if _purpose.get() == "forced" or available is None or needed_bytes <= available:
        return
    way_on = ", or go on anyway with --force" if is_for_training() else ""
    raise MemoryShortage(
        f"{what} need at least {in_words(needed_bytes)} of memory, and {in_words(available)} are "
        f"left; {fix}{way_on}"
    )


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that this process may still use, in bytes, or None if it is unknown.

    It is the least of what the machine, each cgroup above this process (v1 or v2), and the limit of
    its address space (`ulimit -v`) leave. Memory of cached files counts as left.

    Args:
        root: Folder that holds `proc` and `sys`.
    """
    candidates = [_left_on_machine(root), *_left_in_cgroups(root), _left_in_address_space(root)]
    return min((each for each in candidates if each is not None), default=None)


def in_words(num_bytes: float) -> str:
    """Return a number of bytes as "1.5 GB"."""
    unit, name = (1e9, "GB") if num_bytes >= 1e9 else (1e6, "MB")
    return f"{num_bytes / unit:.1f} {name}"


def _left_on_machine(root: Path) -> int | None:
    values = _key_values(root / "proc/meminfo")
    return values["MemAvailable"] * 1024 if "MemAvailable" in values else None


def _left_in_cgroups(root: Path) -> Iterator[int]:
    """Yield what each cgroup above this process leaves, in bytes. Those without a limit do not."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        version = "v2" if number == "0" else "v1"
        mount, limit_name, usage_name = CGROUPS[version]
        # In a container, the path may be that on the host; its own cgroup is then the mount.
        for folder in (root / mount / path.strip("/"), *(root / mount / path.strip("/")).parents):
            limit, usage = _number(folder / limit_name), _number(folder / usage_name)
            if limit is not None and usage is not None:
                details = _key_values(folder / "memory.stat")
                cached = sum(details.get(key, 0) for key in RECLAIMABLE[version])
                yield max(0, limit - usage + min(cached, usage))
            if folder == root / mount:
                break


def _left_in_address_space(root: Path) -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _key_values(root / "proc/self/status").get("VmSize")
    if limit == resource.RLIM_INFINITY or used is None:
        return None
    return max(0, limit - used * 1024)


def _key_values(path: Path) -> dict[str, int]:
    """Return the lines "key value" and "key: value kB" of a file; nothing if it is not there."""
    return {
        key: int(value)
        for key, value in re.findall(r"^(\w+):?\s+(\d+)\b", _text(path), re.MULTILINE)
    }


def _number(path: Path) -> int | None:
    """Return the number in a file, or None if it is not there or says "max"."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or not such a cgroup
        return ""
