"""A search whose trials KerasTuner's own chief gives out to workers, over gRPC.

KerasTuner's environment variables tell the processes what they are. KERASTUNER_TUNER_ID is "chief",
or the name of a worker. KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT say where the chief
listens. All processes see the folder of the search.

Source: https://keras.io/keras_tuner/guides/distributed_tuning/
"""

import contextlib
import io
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import keras_tuner
from keras_tuner.src.distribute import oracle_chief, oracle_client

from cifar_models.config.recipe import Recipe
from cifar_models.errors import RequestError, RunError
from cifar_models.sweeps.oracles import (
    COMPLETED,
    FAILED,
    OBJECTIVE,
    RUNNING,
    make_oracle,
    oracle_class,
    trial_of,
)
from cifar_models.sweeps.roles import VARIABLES
from cifar_models.sweeps.trials import Trials

logger = logging.getLogger("cifar_models")

CONNECTION_SECONDS = 120  # in which the chief must answer; it may still be starting
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def give_out_trials(recipe: Recipe, out: Path, max_trials: int, oracle: str) -> None:
    """Be the chief: give trials to the workers until all are done and each worker has been told.

    Its state is in the folder keras_tuner/. A worker that was killed gets its trial again if it
    comes back with its name.

    Args:
        recipe: Recipe with a `search` table.
        out: Folder of the search.
        max_trials: Number of trials, earlier ones included.
        oracle: Name of an oracle of KerasTuner.

    Raises:
        RequestError: The address cannot be used, or the oracle is none of KerasTuner's.
    """
    address, port = (os.environ[name] for name in VARIABLES[1:])
    if address not in LOOPBACK:
        logger.warning(
            "%s:%s: KerasTuner's connections are neither encrypted nor authenticated: whoever "
            "reaches this port can change the search; use it in a closed network only",
            address,
            port,
        )
    found = make_oracle(oracle_class(oracle), recipe, max_trials, out)
    if (out / "keras_tuner" / "oracle.json").is_file():
        space = found.hyperparameters.get_config()
        found.reload()
        if found.hyperparameters.get_config() != space:
            raise RequestError(f"{out}: is a search of other ranges; choose another --out")
    _refuse_address_in_use(address, port)
    logger.info("chief: waiting for workers at %s:%s", address, port)
    with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints values of conditions
        oracle_chief.start_server(found)


def _refuse_address_in_use(address: str, port: str) -> None:
    """Raise RequestError if no server can listen at an address. gRPC would share the port."""
    try:
        with socket.create_server((address, int(port)), family=_family(address)):
            pass
    except (OSError, ValueError) as error:
        raise RequestError(f"{address}:{port}: the chief cannot listen there: {error}") from None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def work_for_chief(trials: Trials) -> None:
    """Be a worker: train trials that the chief gives, until it has no more.

    Args:
        trials: The trials of the search.

    Raises:
        RequestError: No chief answers.
        RunError: The chief has gone.
    """
    trials.max_failures = 0  # the chief must hear of each one
    # The client asks the chief for everything; the oracle here only has to be one.
    client = oracle_client.OracleClient(keras_tuner.oracles.RandomSearchOracle(OBJECTIVE))
    address = ":".join(os.environ[name] for name in VARIABLES[1:])
    try:
        grpc.channel_ready_future(grpc.insecure_channel(address)).result(CONNECTION_SECONDS)
    except grpc.FutureTimeoutError:
        raise RequestError(
            f"{address}: no chief answers; start it, or correct the address"
        ) from None
    try:
        while (chosen := _quietly(client.create_trial, client.tuner_id)).status == RUNNING:
            trial = trial_of(int(chosen.trial_id) + 1, chosen, trials.recipe)
            (accuracy,) = trials.accuracies([trial]) if trial else (None,)
            chosen.status = FAILED if accuracy is None else COMPLETED
            if accuracy is not None:
                _quietly(client.update_trial, chosen.trial_id, {OBJECTIVE.name: accuracy})
            _quietly(client.end_trial, chosen)
    except grpc.RpcError as error:
        raise RunError(f"{address}: the chief has gone: {error.details()}") from None


def _quietly(call: Callable, *arguments: object) -> Any:
    """Call a function without what it prints: KerasTuner prints the values of conditions."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)
