"""Processes, on one machine or several, that train one run together."""

import contextlib
import hashlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cifar_models.errors import RunError
from cifar_models.runtime.signals import STOP_SIGNALS, Interruption, StopRequest
from cifar_models.runtime.tf_config import VARIABLE, rank_and_workers

logger = logging.getLogger("cifar_models")


class ProcessGroup:
    """The processes that train a run together. Each of them must make the same calls.

    Args:
        rank: Number of this process, from 0.
        workers: Address of each process, HOST:PORT, at least 2.

    Raises:
        RunError: The processes cannot be connected.
    """

    def __init__(self, rank: int, workers: list[str]):
        import tensorflow as tf

        self.rank = rank
        self.size = len(workers)
        num_gpus = len(tf.config.list_physical_devices("GPU"))
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": workers}),
            task_type="worker",
            task_id=rank,
            rpc_layer="grpc",
            num_accelerators={"GPU": min(1, num_gpus)},  # the sum is computed on one device
        )
        logger.info("process %d of %d: waiting for the others", rank + 1, self.size)
        try:
            with _default_signals():  # a wait in TensorFlow would not see a Python handler
                # Of the strategy, only its connections and its sum are used.
                self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except (RuntimeError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"{VARIABLE}: cannot be connected: {reason}") from None
        self._sum_now = tf.function(self._sum_of_one)
        self._stop = tf.Variable(0.0, trainable=False)  # whether this process was asked to stop
        self._stops = tf.Variable(0.0, trainable=False)  # number of such processes, in every one
        self.sum_of_numbers(0.0)  # so that the loss of a process is noticed from here on

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the sums of tensors over all processes, in each of them to the same bits.

        Args:
            tensors: float32 tensors of any shapes, which are sent as one.
        """
        import tensorflow as tf

        sizes = [tf.size(tensor) for tensor in tensors]
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in [*tensors, self._stop]], axis=0)
        *parts, stops = tf.split(self._sum_of_one(flat), [*sizes, 1])
        self._stops.assign(stops[0])
        return [
            tf.reshape(part, tf.shape(tensor)) for part, tensor in zip(parts, tensors, strict=True)
        ]

    def _sum_of_one(self, tensor: Any) -> Any:
        import tensorflow as tf

        def add(value):
            here = tf.identity(value)  # the strategy asks for its device
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)

        return self._strategy.run(add, args=(tensor,))

    def from_first(self, values: Sequence[float]) -> list[float]:
        """Return the numbers that the first process has given.

        Args:
            values: Numbers. Those of other processes are not used, except how many they are.
        """
        import tensorflow as tf

        own = np.asarray(values, np.float64) * (self.rank == 0)
        return self._sum_now(tf.constant(own)).numpy().tolist()

    def check_same(self, what: str, content: bytes) -> None:
        """Raise RunError in every process if something is not the same in all of them.

        Args:
            what: Its name in the message.
            content: Bytes that identify it.
        """
        digest = hashlib.sha256(content).digest()
        own = [float(byte) for byte in digest]
        differs = float(own != self.from_first(own))
        if self.sum_of_numbers(differs):
            raise RunError(f"{what}: differs between the processes of {VARIABLE}")

    def sum_of_numbers(self, value: float) -> float:
        """Return the sum of a number over all processes."""
        import tensorflow as tf

        return float(self._sum_now(tf.constant(value, tf.float64)))

    def tell(self, stop: StopRequest) -> None:
        """Tell the other processes in the next `sum` whether this one was asked to stop."""
        self._stop.assign(float(stop.is_requested()))

    def is_asked_to_stop(self) -> bool:
        """Return whether some process was asked to stop before the last `sum`."""
        return bool(self._stops.numpy())

    @contextlib.contextmanager
    def loss_in_words(self, how_to_resume: str) -> Iterator[None]:
        """Turn the loss of a process into a RunError.

        Args:
            how_to_resume: The command that resumes the run.
        """
        from tensorflow import errors

        try:
            yield
        except (
            errors.UnavailableError,
            errors.AbortedError,
            errors.CancelledError,
            errors.DeadlineExceededError,
            errors.InternalError,
        ) as error:
            raise RunError(
                f"{VARIABLE}: another process has gone; start all of them again with: "
                f"{how_to_resume}"
            ) from error


class GroupStop(StopRequest):
    """The request to stop of a process group: all processes obey after the same step.

    Args:
        group: The group.
        own: The request of this process.
    """

    def __init__(self, group: ProcessGroup, own: StopRequest):
        super().__init__()
        self._group = group
        self.own = own

    def is_requested(self) -> bool:
        """Return whether a signal asked some process to stop, and all of them know."""
        return self._group.is_asked_to_stop()

    def raise_if_requested(self, message: str = "interrupted") -> None:
        """Raise Interruption if a signal asked some process to stop, and all of them know."""
        if self.is_requested():
            raise Interruption(self.own.signal_number or signal.SIGTERM, message)

    @contextlib.contextmanager
    def deferred(self, until: str = "the state is saved") -> Iterator[None]:
        """Only note signals until the block ends."""
        with self.own.deferred(until):
            yield


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    """Give signals their default effect until the block ends, and their handlers afterwards.

    TensorFlow replaces the handler of SIGTERM when it connects processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_group: ProcessGroup | None = None


def current_group() -> ProcessGroup | None:
    """Return the group that this process has joined, or None."""
    return _group


def join_group() -> None:
    """Join the processes of TF_CONFIG, if it names several.

    Call it before TensorFlow computes anything. It waits for the others.

    Raises:
        RequestError: TF_CONFIG cannot be read.
        RunError: The processes cannot be connected.
    """
    global _group
    rank, workers = rank_and_workers()
    if len(workers) > 1 and _group is None:
        _group = ProcessGroup(rank, workers)
