"""Kills at random moments: no finished trial is lost, and the best recipe is the same."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import SMALLEST_CNN_TOML, free_port

pytestmark = pytest.mark.slow

KILLS = 5
TRIALS = 4
MAX_SECONDS = 300
RECIPE = f"""{SMALLEST_CNN_TOML}
[training]
epochs = 6
batch_size = 16

[runtime]
checkpoint_seconds = 0
deterministic = true

[search]
oracle = "random"
"training.peak_learning_rate" = {{ low = 1e-3, high = 1.0, scale = "log" }}
"""


@dataclass(frozen=True)
class Search:
    """A search that nobody disturbed.

    Attributes:
        command: The command, without --out.
        best: Content of its best.toml.
        seconds: Its duration, with the start of the process.
    """

    command: list[str]
    best: str
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Search:
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "cifar_models", "tune", str(recipe)]
    command += ["--trials", str(TRIALS)]
    began = time.monotonic()
    subprocess.run([*command, "--out", str(folder / "out")], check=True)
    seconds = time.monotonic() - began
    return Search(command, (folder / "out" / "best.toml").read_text(), seconds)


def finished_trials(out: Path) -> dict[str, int]:
    """Return name → time of the last change of the results, nanoseconds."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("trials/*/metrics.json")}


def assert_goes_on(search: Search, out: Path, options: list[str] | None = None, **variables: str):
    """Repeat the command, and assert that it loses nothing."""
    before = finished_trials(out)
    subprocess.run(
        [*search.command, *(options or []), "--out", str(out)],
        env={**os.environ, **variables},
        check=True,
        timeout=MAX_SECONDS,
    )
    after = finished_trials(out)
    assert len(after) == TRIALS
    assert {name: after[name] for name in before} == before
    assert (out / "best.toml").read_text() == search.best


def kill_whole(process: subprocess.Popen) -> None:
    """Kill a process and its descendants, if they are still there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        for each in [*family, psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


@pytest.fixture
def start():
    """Return a function that starts a command, which does not outlive the test."""
    started: list[subprocess.Popen] = []

    def run(command: list[str], **variables: str) -> subprocess.Popen:
        started.append(subprocess.Popen(command, env={**os.environ, **variables}))
        return started[-1]

    yield run
    for process in started:
        kill_whole(process)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_search_that_is_killed_goes_on(undisturbed, start, tmp_path, seed):
    process = start([*undisturbed.command, "--out", str(tmp_path / "out")])
    time.sleep(random.Random(seed).uniform(0, undisturbed.seconds))
    process.kill()
    process.wait()
    assert_goes_on(undisturbed, tmp_path / "out")


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_trial_whose_process_is_killed_is_trained_to_its_end(undisturbed, start, tmp_path, seed):
    search = start([*undisturbed.command, "--out", str(tmp_path / "out")])
    time.sleep(random.Random(100 + seed).uniform(0, undisturbed.seconds))
    with contextlib.suppress(psutil.NoSuchProcess):  # the search has ended
        for child in psutil.Process(search.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
    assert search.wait(MAX_SECONDS) == 0
    assert_goes_on(undisturbed, tmp_path / "out")


class RayNode:
    """A Ray node, in processes of its own.

    Args:
        address: Address of the head, or "" to start a head.
        cpus: Number of CPUs that the node offers.
    """

    def __init__(self, address: str, cpus: int):
        port = free_port()
        role = ["--address", address] if address else ["--head", "--port", str(port)]
        self.address = address or f"127.0.0.1:{port}"
        self._folder = tempfile.mkdtemp(prefix="ray-")  # a short path, for its sockets
        ray = Path(sys.executable).with_name("ray")
        options = ["--block", "--disable-usage-stats", "--num-cpus", str(cpus)]
        if not address:
            options += ["--temp-dir", self._folder, "--include-dashboard", "false"]
        self._process = subprocess.Popen([ray, "start", *role, *options], stdout=subprocess.DEVNULL)

    def wait(self) -> None:
        """Wait until the head answers."""
        port = int(self.address.rpartition(":")[2])
        end = time.monotonic() + MAX_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.2)
        raise AssertionError("the head does not start")

    def kill(self) -> None:
        """End all its processes at once."""
        kill_whole(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


CORES = os.cpu_count() or 1
ON_RAY = ["--on", "ray", "--workers", "1", "--worker-cpus", str(CORES)]


@pytest.fixture
def nodes(monkeypatch):
    """Return a list of nodes that are killed when the test ends."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 2)  # of all nodes of the test
    found: list[RayNode] = []
    yield found
    for node in reversed(found):
        node.kill()


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_search_survives_the_loss_of_its_machine(undisturbed, nodes, start, tmp_path, seed):
    head = RayNode("", 0)
    nodes.append(head)
    head.wait()
    nodes.append(RayNode(head.address, CORES))
    command = [*undisturbed.command, *ON_RAY, "--out", str(tmp_path / "out")]
    search = start(command, RAY_ADDRESS=head.address)
    time.sleep(random.Random(200 + seed).uniform(0, 2 * undisturbed.seconds))
    nodes.pop().kill()
    nodes.append(RayNode(head.address, CORES))
    assert search.wait(MAX_SECONDS) == 0
    assert_goes_on(undisturbed, tmp_path / "out")


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_search_whose_head_is_killed_goes_on_with_another_one(
    undisturbed, nodes, start, tmp_path, seed
):
    nodes.append(RayNode("", CORES))
    nodes[0].wait()
    command = [*undisturbed.command, *ON_RAY, "--out", str(tmp_path / "out")]
    search = start(command, RAY_ADDRESS=nodes[0].address)
    time.sleep(random.Random(300 + seed).uniform(0, 2 * undisturbed.seconds))
    nodes.pop().kill()
    search.wait(MAX_SECONDS)
    nodes.append(RayNode("", CORES))
    nodes[0].wait()
    assert_goes_on(undisturbed, tmp_path / "out", ON_RAY, RAY_ADDRESS=nodes[0].address)
