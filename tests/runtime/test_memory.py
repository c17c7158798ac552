"""The memory that is left: the machine, cgroups of both versions, the address space."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_models.errors import RequestError
from cifar_models.runtime import memory

GB = 10**9


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


def meminfo(available_kb: int) -> str:
    return f"MemTotal:       99999999 kB\nMemFree:  1 kB\nMemAvailable:   {available_kb} kB"


def test_without_cgroups_the_machine_decides(tmp_path):
    write(tmp_path, {"proc/meminfo": meminfo(3_000_000)})
    assert memory.available_bytes(tmp_path) == 3_000_000 * 1024


def test_on_other_systems_it_is_unknown_and_nothing_is_refused(tmp_path, monkeypatch):
    assert memory.available_bytes(tmp_path) is None
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.refuse_if_too_large(1e30, "images", "take fewer")


@pytest.mark.parametrize("limited", ["", "/pod", "/pod/container"])
def test_the_smallest_limit_above_the_process_decides_in_cgroup_v2(limited, tmp_path):
    files = {"proc/meminfo": meminfo(9_000_000), "proc/self/cgroup": "0::/pod/container"}
    for group in ("", "/pod", "/pod/container"):
        files |= {
            f"sys/fs/cgroup{group}/memory.max": 3 * GB if group == limited else "max",
            f"sys/fs/cgroup{group}/memory.current": 2 * GB,
            # Cached files are given up; the memory of processes (anon) is not.
            f"sys/fs/cgroup{group}/memory.stat": (
                f"anon {GB}\nfile {GB}\ninactive_file {GB // 2}\nactive_file {GB // 4}"
            ),
        }
    assert memory.available_bytes(write(tmp_path, files)) == 3 * GB - 2 * GB + GB * 3 // 4


def test_cgroup_v1_and_a_path_of_the_host_inside_a_container(tmp_path):
    files = {
        "proc/meminfo": meminfo(9_000_000),
        "proc/self/cgroup": "4:cpu,memory:/docker/1a2b\n3:cpuset:/\n0::/",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GB,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": GB,
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 5\ntotal_active_file 6\ncache 99",
    }
    assert memory.available_bytes(write(tmp_path, files)) == GB + 11


def test_a_cgroup_that_is_full_leaves_nothing(tmp_path):
    files = {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/memory.max": GB,
        "sys/fs/cgroup/memory.current": GB + 1,
    }
    assert memory.available_bytes(write(tmp_path, files)) == 0


def test_the_real_machine_leaves_less_than_it_has():
    pages = int(subprocess.check_output(["getconf", "_PHYS_PAGES"]))
    left = memory.available_bytes()
    assert left is None or 0 < left <= pages * resource.getpagesize()


def test_a_limit_of_the_address_space_counts():
    program = (
        "import resource\n"
        "from cifar_models.runtime.memory import available_bytes\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))\n"
        "left = available_bytes()\n"
        "assert 10**9 < left < 2 * 10**9, left\n"
        "block = bytearray(left - 10**8)\n"  # is really left
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_refusal_gives_the_figures_and_force_only_where_it_exists(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * GB)
    memory.refuse_if_too_large(3 * GB, "7 images", "take fewer")
    message = "7 images need at least 3.5 GB of memory, and 3.0 GB are left; take fewer"
    with pytest.raises(RequestError, match=f"^{message}$"):
        memory.refuse_if_too_large(3.5 * GB, "7 images", "take fewer")
    with (
        memory.memory_for_training(force=False),
        pytest.raises(RequestError, match=f"^{message}, or go on anyway with --force$"),
    ):
        memory.refuse_if_too_large(3.5 * GB, "7 images", "take fewer")
    with memory.memory_for_training(force=True), memory.memory_for_training(force=False):
        memory.refuse_if_too_large(3.5 * GB, "7 images", "take fewer")
