"""Workers on the machines of a Ray cluster."""

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from cifar_models.config.recipe_file import read_recipe, recipe_toml
from cifar_models.errors import RunError
from cifar_models.run.load import load_run
from cifar_models.workers import ray_machine
from cifar_models.workers.job import Death, Job, JobResult
from cifar_models.workers.parcel import Parcel, pack, unpack
from cifar_models.workers.pool_options import PoolOptions
from cifar_models.workers.ray_crew import places_on
from cifar_models.workers.ray_machine import Conditions, RayMachine
from tests.conftest import SMALLEST_CNN_TOML, read_metrics, refusal

# The last bits of a run depend on the number of cores.
HALF_OF_CORES = max(1, (os.cpu_count() or 1) // 2)
ON_RAY = ["--on", "ray", "--workers", "2", "--worker-cpus", str(HALF_OF_CORES)]
SMALL = f"""{SMALLEST_CNN_TOML}
[training]
epochs = 2
batch_size = 64
"""
SEARCH = (
    SMALL.replace("epochs = 2\nbatch_size = 64", "epochs = 4\nbatch_size = 16")
    + """
[runtime]
checkpoint_seconds = 0

[search]
oracle = "random"
"training.peak_learning_rate" = { low = 1e-3, high = 1.0, scale = "log" }
"""
)


def write_files(folder: Path, **contents: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


def test_a_folder_travels_whole(tmp_path):
    sent = write_files(tmp_path / "sent", a="1", b="2")
    write_files(sent / "checkpoints", step="3")
    arrived = write_files(tmp_path / "out" / "trials" / "0001", a="old", gone="x")
    unpack(pack(sent), arrived)
    found = {
        path.relative_to(arrived).as_posix(): path.read_text()
        for path in arrived.rglob("*")
        if path.is_file()
    }
    assert found == {"a": "1", "b": "2", "checkpoints/step": "3"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trials"]


def test_a_damaged_parcel_changes_nothing(tmp_path):
    parcel = pack(write_files(tmp_path / "sent", a="1"))
    arrived = write_files(tmp_path / "out" / "trials" / "0001", a="old")
    damaged = Parcel(parcel.content[:600] + b"?" + parcel.content[601:], parcel.sha256)
    with pytest.raises(RunError, match="0001: arrived damaged"):
        unpack(damaged, arrived)
    assert (arrived / "a").read_text() == "old"


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "expected"),
    [
        ({"CPU": 4.0}, 1, 0.0, 4),
        ({"CPU": 4.0}, 3, 0.0, 1),
        ({"CPU": 16.0, "GPU": 2.0}, 2, 0.5, 4),
        ({"CPU": 16.0}, 2, 1.0, 0),
        ({}, 1, 0.0, 0),
    ],
)
def test_the_places_of_a_machine(resources, cpus, gpus, expected):
    assert places_on(resources, PoolOptions(cpus=cpus, gpus=gpus)) == expected


def test_workers_of_one_machine_use_different_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_machine.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(ray_machine.os, "sched_getaffinity", lambda _: {2, 3, 5, 7})
    first, first_claims = ray_machine._claim_cores(1)
    second, second_claims = ray_machine._claim_cores(2)
    assert (first, second) == ([2], [3, 5])
    assert ray_machine._claim_cores(2)[0] == []  # one is left, so all of them are shared
    for file in first_claims:
        file.close()
    third, third_claims = ray_machine._claim_cores(2)
    assert third == [2, 7]
    for file in second_claims + third_claims:
        file.close()
    assert ray_machine._claim_cores(4)[0] == []


def test_a_machine_with_other_versions_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)  # the machine changes it
    conditions = Conditions(
        packages={"keras": "0.1", "numpy": version("numpy")},
        token_path=Path("/nowhere"),
        token="",
        command=[],
        onednn="auto",
        cpus=1,
    )
    message = RayMachine(conditions).receive(0.1).message
    assert isinstance(message, JobResult) and message.is_refused
    assert f"has keras {version('keras')} and not 0.1; install the same versions" in message.problem
    assert "numpy" not in message.problem


def test_wrong_requests_are_refused(capsys, tmp_path):
    command = ["tune", "digits-cnn", "--out", tmp_path / "search"]
    assert "must be at least 1" in refusal(capsys, *command, "--on", "ray", "--worker-cpus", -1)
    assert "need --on ray" in refusal(capsys, *command, "--worker-cpus", 2)
    assert "--workers 0" in refusal(capsys, *command, "--workers", 0)
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
def test_a_run_folder_that_a_machine_does_not_see_travels(tmp_path, monkeypatch):
    recipe_path = tmp_path / "small.toml"
    recipe_path.write_text(SMALL)
    recipe = recipe_toml(read_recipe(str(recipe_path)))
    job = Job(path=tmp_path / "out" / "trials" / "0001", recipe=recipe, split="validation")
    job.path.mkdir(parents=True)
    conditions = Conditions(
        packages={},
        token_path=tmp_path / "missing",
        token="token",
        command=["a command"],
        onednn="auto",
        cpus=os.cpu_count() or 1,
    )
    monkeypatch.setattr(sys, "argv", sys.argv)  # the machine changes it
    machine = RayMachine(conditions)
    assert not machine.sees_folder()
    results = []
    for pause_after in (1, 0):
        part = Job(**{**vars(job), "pause_after": pause_after})
        machine.send(part, pack(job.path))
        while not isinstance((news := machine.receive(1.0)).message, JobResult):
            assert not isinstance(news.message, Death), news.message
        assert not news.message.problem and news.parcel
        assert not list(job.path.glob("metrics.json"))
        unpack(news.parcel, job.path)
        results.append(news.message.accuracy)
    machine.stop()
    run = load_run(job.path)
    assert run.metrics.accuracy == results[1]
    assert [int(row["epoch"]) for row in run.history] == [1, 2]


@pytest.fixture
def cluster():
    """A Ray cluster of a head without CPUs and two machines with half of the cores each."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    found.machines = [found.add_node(num_cpus=HALF_OF_CORES) for _ in range(2)]
    yield found
    found.shutdown()


@pytest.mark.slow
def test_a_search_survives_the_loss_of_a_machine(cluster, tmp_path):
    recipe = tmp_path / "small.toml"
    recipe.write_text(SEARCH)
    command = [sys.executable, "-m", "cifar_models", "tune", str(recipe), "--trials", "4"]
    here, there = tmp_path / "here", tmp_path / "there"
    subprocess.run([*command, "--workers", "2", "--out", str(here)], check=True)
    search = subprocess.Popen(
        [*command, *ON_RAY, "--out", str(there)],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
    )
    begin = time.monotonic()
    while not all(list((there / f"trials/000{n}/checkpoints").glob("*")) for n in (1, 2)):
        assert search.poll() is None and time.monotonic() - begin < 300
        time.sleep(0.05)
    cluster.remove_node(cluster.machines[0], allow_graceful=False)
    cluster.add_node(num_cpus=HALF_OF_CORES)
    assert search.wait(timeout=300) == 0
    for name in ("0001", "0002", "0003", "0004"):
        mine, theirs = (read_metrics(out / "trials" / name) for out in (there, here))
        assert mine["accuracy"] == theirs["accuracy"] and mine["loss"] == theirs["loss"]
    assert (there / "best.toml").read_text() == (here / "best.toml").read_text()


@pytest.mark.slow
def test_a_study_runs_on_a_cluster(cluster, tmp_path):
    recipe, study = tmp_path / "small.toml", tmp_path / "study.toml"
    recipe.write_text(SMALL)
    study.write_text(f'recipes = ["{recipe}"]\nseeds = [0, 1]\nrobustness_images = 10\n')
    command = ["study", str(study), *ON_RAY, "--out", str(tmp_path / "out")]
    subprocess.run(
        [sys.executable, "-m", "cifar_models", *command],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        check=True,
    )
    assert len(list((tmp_path / "out").rglob("metrics.json"))) == 2
    assert list((tmp_path / "out").rglob("report.html"))


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_refused(capsys, tmp_path):
    recipe = tmp_path / "small.toml"
    recipe.write_text(SEARCH)
    error = refusal(
        capsys, "tune", recipe, "--on", "ray://127.0.0.1:9", "--out", tmp_path / "search"
    )
    assert "--on ray://127.0.0.1:9: no Ray cluster answers" in error
