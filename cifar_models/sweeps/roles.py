"""The part of a process in a search with KerasTuner's chief and workers."""

import os

from cifar_models.errors import RequestError

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
CHIEF, WORKER = "chief", "worker"


def role() -> str | None:
    """Return what KerasTuner's variables make of this process: "chief", "worker" or None.

    Raises:
        RequestError: Some of the variables are set, and others are not.
    """
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if len(missing) == len(VARIABLES):
        return None
    if missing:
        raise RequestError(f"{missing[0]}: is not set; set it, or unset {VARIABLES[0]} and others")
    return CHIEF if os.environ[VARIABLES[0]] == CHIEF else WORKER
