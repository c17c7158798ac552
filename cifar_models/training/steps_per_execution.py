"""The number of training steps in one call of the compiled function."""

import logging
import math

from cifar_models.training.run_context import RunContext
from cifar_models.training.trainer import Trainer

logger = logging.getLogger("cifar_models")


def set_steps_per_execution(trainer: Trainer, context: RunContext, first_step: int) -> None:
    """Set the number of steps in one execution, and log it if it is lower than requested."""
    chosen = choose_steps_per_execution(
        context.runtime.steps_per_execution,
        trainer.steps_per_epoch,
        first_step,
        trainer.total_steps,
    )
    trainer.steps_per_execution = chosen
    requested = context.recipe.runtime.steps_per_execution
    if requested and chosen != requested:
        logger.info(
            "runtime.steps_per_execution: using %d instead of %d, because an execution must end "
            "with the %d steps of each epoch",
            chosen,
            requested,
            trainer.steps_per_epoch,
        )


def choose_steps_per_execution(
    requested: int, steps_per_epoch: int, first_step: int, total_steps: int
) -> int:
    """Return the largest possible number of steps in one execution, up to the requested one.

    The end of each epoch must be the end of an execution, even if the run resumes within an epoch.
    There are at least two executions, because the first one is not timed.

    Args:
        requested: Maximum number of steps in one execution.
        steps_per_epoch: Number of steps in an epoch.
        first_step: 0, or the step at which the run resumes.
        total_steps: Number of steps of the run.
    """
    length = math.gcd(steps_per_epoch, first_step)
    maximum = max(1, min(requested, (total_steps - first_step) // 2))
    return max(n for n in range(1, min(maximum, length) + 1) if length % n == 0)
