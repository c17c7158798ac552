"""The commands that train many runs: a hyperparameter search, and a study."""

import argparse
from pathlib import Path

from cifar_models.cli.recipe_options import read_recipe_of
from cifar_models.errors import RequestError
from cifar_models.runtime.tf_config import VARIABLE, rank_and_workers
from cifar_models.workers.pool_options import PoolOptions


def tune_command(options: argparse.Namespace) -> None:
    """Search the ranges of recipes."""
    recipes = [read_recipe_of(options, name) for name in options.recipes]
    for name, minimum in (("trials", 1), ("confirm", 0)):
        if (value := getattr(options, name)) < minimum:
            raise RequestError(f"--{name} {value}: must be at least {minimum}")
    pool = _pool_options(options, options.trial_seconds)
    for recipe in recipes:
        if not recipe.search:
            raise RequestError(
                f"recipe {recipe.name}: declares nothing to search; add a [search] table"
            )
    from cifar_models.runtime.onednn import choose_onednn
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    choose_onednn(recipes[0].runtime.onednn)
    import_tensorflow()
    from cifar_models.sweeps.several_searches import tune_several
    from cifar_models.sweeps.tuning import SearchOptions, tune

    how = SearchOptions(
        oracle=options.oracle or "",
        budget_seconds=options.budget_seconds,
        budget_flops=options.budget_flops,
        pool=pool,
        confirm=options.confirm,
        confirm_on_all=options.confirm_on_all,
        force=options.force,
    )
    if len(recipes) == 1:
        tune(recipes[0], options.trials, options.out, how)
    else:
        print(tune_several(recipes, options.trials, options.out, how))


def study_command(options: argparse.Namespace) -> None:
    """Train the missing runs of a study."""
    from cifar_models.sweeps.study import run_study

    out = options.out or Path("runs") / f"study-{Path(options.study).stem}"
    for report in run_study(options.study, out, options.force, _pool_options(options)):
        print(report)


def _pool_options(options: argparse.Namespace, job_seconds: float | None = None) -> PoolOptions:
    if len(rank_and_workers()[1]) > 1:
        raise RequestError(f"{VARIABLE}: applies to train and resume only; unset it")
    if options.workers < 1:
        raise RequestError(f"--workers {options.workers}: must be at least 1")
    if options.worker_cpus is not None and options.worker_cpus < 1:
        raise RequestError(f"--worker-cpus {options.worker_cpus}: must be at least 1")
    gpus = options.worker_gpus or 0.0
    if gpus > 1 and gpus % 1:
        raise RequestError(f"--worker-gpus {gpus:g}: must be a whole number, or below 1")
    if options.on is None and (options.worker_cpus or options.worker_gpus):
        raise RequestError("--worker-cpus, --worker-gpus: need --on ray; add it or leave them out")
    return PoolOptions(
        workers=options.workers,
        job_seconds=job_seconds,
        cluster=options.on,
        cpus=options.worker_cpus or 1,
        gpus=gpus,
    )
