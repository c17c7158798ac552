"""What a fit does besides if several processes share it."""

import contextlib
import hashlib
from contextlib import AbstractContextManager

import keras

from cifar_models.runtime.process_group import GroupStop, ProcessGroup
from cifar_models.training.run_context import RunContext
from cifar_models.training.trainer import Trainer


class GroupCallback(keras.callbacks.Callback):
    """Callback that passes on requests to stop, and compares the weights after each epoch.

    Args:
        group: The processes.
        context: The run.
    """

    def __init__(self, group: ProcessGroup, context: RunContext):
        super().__init__()
        self._group = group
        self._context = context

    def on_train_batch_begin(self, batch, logs=None):
        assert isinstance(self._context.stop, GroupStop)
        self._group.tell(self._context.stop.own)

    def on_epoch_end(self, epoch, logs=None):
        check_weights(self._group, self.model.network, "the weights after an epoch")


def check_weights(group: ProcessGroup, network: keras.Model, what: str) -> None:
    """Raise RunError in every process if a network has not the same weights in all of them."""
    digest = hashlib.sha256()
    for array in network.get_weights():
        digest.update(array.tobytes())
    group.check_same(what, digest.digest())


def join_fit(
    trainer: Trainer, context: RunContext, first_step: int
) -> list[keras.callbacks.Callback]:
    """Check that all processes begin with the same state, and return what the fit needs.

    Raises:
        RunError: The processes have other checkpoints or other initial weights.
    """
    if (group := context.runtime.group) is None:
        return []
    group.check_same("the step of the newest checkpoint", str(first_step).encode())
    check_weights(group, trainer.network, "the weights before training")
    return [GroupCallback(group, context)]


def loss_of_process_in_words(context: RunContext) -> AbstractContextManager[None]:
    """Turn the loss of another process into a RunError."""
    if context.runtime.group is None:
        return contextlib.nullcontext()
    return context.runtime.group.loss_in_words(context.folder.resume_command())
