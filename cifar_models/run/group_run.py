"""What a run does besides if several processes share it."""

import json
from dataclasses import asdict, replace

from cifar_models.runtime.environment import environment
from cifar_models.runtime.process_group import GroupStop, ProcessGroup
from cifar_models.training.callbacks import Validate
from cifar_models.training.run_context import RunContext

# What the processes may differ in.
OWN_FIELDS = ("command", "device", "platform")


def join_run(context: RunContext) -> RunContext:
    """Check that all processes train the same, and let a request to stop one stop all of them.

    Raises:
        RunError: Recipe, data or versions differ.
    """
    group = context.runtime.group
    if group is None:
        return context
    fingerprints = context.folder.read_fingerprints()
    versions = {
        key: value
        for key, value in asdict(environment(context.runtime)).items()
        if key not in OWN_FIELDS
    }
    versions["devices"] = len(context.runtime.devices)
    versions["kind"] = "GPU" if "GPU" in context.runtime.devices[0] else "CPU"
    for what, content in (
        ("the recipe or the data", fingerprints),
        ("the versions or the kind and number of devices", versions),
    ):
        group.check_same(what, json.dumps(content, sort_keys=True).encode())
    return replace(context, stop=GroupStop(group, context.stop))


def by_first(group: ProcessGroup | None, validate: Validate) -> Validate:
    """Return a function that gives every process what the first one has measured.

    Otherwise they might choose different epochs, because processors round differently.
    """
    if group is None:
        return validate

    def share() -> tuple[float, float]:
        accuracy, loss = group.from_first(validate() if group.rank == 0 else (0.0, 0.0))
        return accuracy, loss

    return share
