"""Compare successive halving with random search on the digits, and measure the cost of a trial.

    .venv/bin/python experiments/search_cost.py --out runs/search-cost

For each seed, random search trains a number of trials, and halving begins with three times as many.
Both train a digits-cnn for 27 epochs, and are resumed if they were stopped. The cost of a search is
the number of floating-point operations of its training.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

EPOCHS = 27


def search(oracle: str, trials: int, seed: int, out: Path) -> dict[str, float]:
    """Run a search, and return its best validation accuracy, operations and seconds."""
    from cifar_models.storage.atomic_files import read_json
    from cifar_models.storage.records import RunMetrics
    from cifar_models.storage.run_folder import RunFolder
    from cifar_models.sweeps.budget import FILE, SearchBudget

    command = [sys.executable, "-m", "cifar_models", "tune", "digits-cnn", "--oracle", oracle]
    options = ["--trials", str(trials), "--seed", str(seed), "--out", str(out)]
    subprocess.run(
        [*command, *options, "--set", f"training.epochs={EPOCHS}"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    finished = [
        folder
        for path in sorted((out / "trials").iterdir())
        if (folder := RunFolder(path)).is_finished()
    ]
    metrics = [folder.read(RunMetrics) for folder in finished]
    ends = [(folder.path / "metrics.json").stat().st_mtime for folder in finished]
    # With one worker, the trials of random search end one after the other.
    overheads = [
        end - begin - each.train_seconds - each.compile_seconds
        for (begin, end), each in zip(itertools.pairwise(ends), metrics[1:], strict=True)
    ]
    return {
        "accuracy": max(each.accuracy for each in metrics),
        "flops": SearchBudget(out, None, None).spent_flops(),
        "seconds": read_json(out, FILE)["seconds"],
        "overhead": statistics.median(overheads) if oracle == "random" else 0.0,
        "compilation": statistics.median(each.compile_seconds for each in metrics),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=27)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        random = search("random", options.trials, seed, options.out / f"random-{seed}")
        halving = search("halving", 3 * options.trials, seed, options.out / f"halving-{seed}")
        rows.append((random, halving))
        print(json.dumps({"seed": seed, "random": random, "halving": halving}), flush=True)
    costs = [halving["flops"] / random["flops"] for random, halving in rows]
    gains = [100 * (halving["accuracy"] - random["accuracy"]) for random, halving in rows]
    print(f"halving's cost: {statistics.median(costs):.2f} of random search (median)")
    print(
        f"halving's best accuracy minus that of random search: {statistics.median(gains):+.2f} "
        f"points (median; {min(gains):+.2f} to {max(gains):+.2f}, {len(gains)} seeds)"
    )
    overheads = [random["overhead"] for random, _ in rows]
    print(f"besides training and compilation: {statistics.median(overheads):.2f} s for each trial")


if __name__ == "__main__":
    main()
