"""Measure what grows with the number of runs, and estimate studies of 10,000 runs.

    .venv/bin/python experiments/search_scale.py --driver-seconds 0.17

It measures the time in which an oracle proposes a trial, at several numbers of earlier trials, the
time in which a study finds out which of its runs are finished, and how often a trial changes the
entries of its folder. From these, it estimates how long 10,000 runs take on several numbers of
workers.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RUNS = 10_000
WORKERS = (1, 8, 64, 1000)
RNG = random.Random(0)


def seconds_per_proposal(oracle: str, counts: list[int], repeats: int) -> dict[int, float]:
    """Return number of earlier trials → median seconds of a proposal and its end, saved to disk."""
    from cifar_models.config.recipe_file import read_recipe
    from cifar_models.sweeps.oracles import make_oracle, oracle_class

    found = {}
    recipe, maximum = read_recipe("digits-cnn"), max(counts) + repeats
    with tempfile.TemporaryDirectory() as folder:
        earlier = make_oracle(oracle_class("random"), recipe, maximum, Path(folder, "earlier"))
        for count in counts:
            while len(earlier.trials) < count:
                propose(earlier)
            measured = make_oracle(oracle_class(oracle), recipe, maximum, Path(folder, str(count)))
            measured.trials = dict(earlier.trials)
            measured.start_order = list(earlier.start_order)
            measured.end_order = list(earlier.end_order)
            found[count] = statistics.median(propose(measured) for _ in range(repeats))
    return found


def propose(oracle) -> float:
    """Let an oracle propose a trial and take its result, and return the seconds that this took."""
    from cifar_models.sweeps.oracles import COMPLETED, OBJECTIVE

    began = time.perf_counter()
    trial = oracle.create_trial("worker")
    trial.status = COMPLETED
    oracle.update_trial(trial.trial_id, {OBJECTIVE.name: RNG.random()})
    oracle.end_trial(trial)
    return time.perf_counter() - began


def seconds_per_known_run(count: int) -> float:
    """Return the time in which a study finds out that a run is finished, by its folder."""
    from cifar_models.storage.run_folder import RunFolder

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:05d}" for number in range(count)]
        for path in paths:
            path.mkdir()
            (path / "metrics.json").write_text("{}")
        began = time.perf_counter()
        assert all(RunFolder(path).is_finished() for path in paths)
        return (time.perf_counter() - began) / count


def folder_operations(out: Path) -> dict[str, int]:
    """Return operation → how often a short trial makes it in its folder."""
    from cifar_models.config.recipe_file import read_recipe, recipe_toml
    from cifar_models.workers.job import Job
    from cifar_models.workers.work import do_job

    counts: Counter[str] = Counter()

    def count(event: str, arguments: tuple) -> None:
        path = str(arguments[0]) if arguments else ""
        if os.path.isabs(path) and not path.startswith(str(out)):  # noqa: PTH117
            return
        if event == "open" and arguments[2] & os.O_CREAT:
            counts["create or overwrite"] += 1
        elif event in ("os.rename", "os.mkdir", "os.remove"):
            counts[event] += 1

    sys.addaudithook(count)
    recipe = read_recipe("digits-cnn", ["training.epochs=3"])
    assert not do_job(Job(path=out, recipe=recipe_toml(recipe))).problem
    return dict(counts)


def estimate(name: str, proposal: float, options: argparse.Namespace) -> None:
    """Print how long RUNS runs take, if the driver spends some seconds on each proposal."""
    driver = options.driver_seconds + proposal
    for workers in WORKERS:
        training, waiting = RUNS * options.run_seconds / workers, RUNS * driver
        print(
            f"{name}, {workers} workers: {max(training, waiting) / 3600:.1f} hours; the driver is "
            f"busy for {100 * min(waiting / training, 1):.1f} % of them"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run-seconds", type=float, default=600.0)
    parser.add_argument(
        "--driver-seconds",
        type=float,
        required=True,
        help="processor time of the search for a trial, without its proposal",
    )
    options = parser.parse_args()
    found = {
        "random": seconds_per_proposal("random", [100, 1000, 10_000], 20),
        "bayesian": seconds_per_proposal("bayesian", [100, 300, 1000], 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        operations = folder_operations(Path(folder, "trial"))
    print(json.dumps({**found, "known run": seconds_per_known_run(RUNS), "folder": operations}))
    for name, seconds in found.items():
        estimate(name, list(seconds.values())[-1], options)


if __name__ == "__main__":
    main()
