"""Data-parallel training: each device computes the gradients of a part of each batch.

The weights, the optimizer and the augmentation stay on the first device, so checkpoints do not
depend on the number of devices. In each step, the weights are copied to the other devices, and the
gradients of all of them are averaged on the first one.

Several processes do the same with one more sum: each of them has the weights and the whole batch,
and computes the gradients of its part.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from cifar_models.errors import RequestError
from cifar_models.runtime.process_group import ProcessGroup


class Gradients(NamedTuple):
    """What is computed from a batch, or from a device's part of it.

    Attributes:
        loss: Loss, float32 scalar, with the regularization losses.
        logits: float32 (B, K).
        gradients: Gradient of the scaled loss for each trainable variable.
        state: Value of each non-trainable variable after the forward pass.
    """

    loss: tf.Tensor
    logits: tf.Tensor
    gradients: list[tf.Tensor]
    state: list[tf.Tensor]


class DataParallelGradients:
    """Gradients of a batch, computed by several devices.

    Batch normalization uses the statistics of each device's part, as it does in Keras and PyTorch,
    and its moving averages take the mean of the devices. A network without batch normalization and
    dropout has the gradients of one device, up to rounding.

    Args:
        model: Model that returns logits, and adds losses. It is called with training=True.
        compute_loss: Function of (inputs, targets, logits, weights) that returns the loss of a
            part of a batch, with the losses that the model has added.
        stateful: Non-trainable variables that a forward pass may change.
        devices: Names of the N devices. The first one holds the weights.
        xla: Whether XLA compiles the work of each device.
        group: The processes among which each batch is divided first. None: there is one.
    """

    def __init__(
        self,
        model: keras.Model,
        compute_loss: Callable,
        stateful: Sequence[keras.Variable],
        devices: Sequence[str],
        xla: bool,
        group: ProcessGroup | None = None,
    ):
        self._model = model
        self._compute_loss = compute_loss
        self._stateful = list(stateful)
        self._devices = list(devices)
        self._group = group
        # Parts are numbered over all processes. This one computes those from the first one on.
        self._num_parts = len(devices) * (group.size if group else 1)
        self._first = len(devices) * (group.rank if group else 0)
        self._of_part = tf.function(self._gradients_of_part, jit_compile=xla)

    def __call__(
        self, inputs, targets: tf.Tensor, weights: tf.Tensor | None, loss_scale: tf.Tensor
    ) -> Gradients:
        """Return the gradients of a batch, and update the non-trainable variables.

        Args:
            inputs: Input of the model: a tensor with first axis B, or a tuple of such tensors. B is
                a multiple of N, times the number of processes.
            targets: float32 (B, K).
            weights: Weight of each image, float32 (B,), or None.
            loss_scale: Factor of the loss before its gradients are computed, float32 scalar.
        """
        size = tf.shape(targets)[0] // self._num_parts
        found = []
        for number, device in enumerate(self._devices, self._first):
            begin, end = number * size, (number + 1) * size
            part = tf.nest.map_structure(
                lambda tensor, begin=begin, end=end: None if tensor is None else tensor[begin:end],
                (inputs, targets, weights),
            )
            with tf.device(device):
                trainable = [tf.identity(each.value) for each in self._model.trainable_variables]
                state = [tf.identity(each.value) for each in self._stateful]
                found.append(self._of_part(number, part, trainable, state, loss_scale))
        losses, logits, gradients, states = zip(*found, strict=True)
        joined = self._of_all_processes(
            Gradients(
                loss=_mean(losses),
                logits=tf.concat(logits, axis=0),
                gradients=[_mean(values) for values in zip(*gradients, strict=True)],
                state=[
                    self._change(variable, values)
                    for variable, *values in zip(self._stateful, *states, strict=True)
                ],
            ),
            size,
        )
        state = [v.value + change for v, change in zip(self._stateful, joined.state, strict=True)]
        for variable, value in zip(self._stateful, state, strict=True):
            variable.assign(value)
        return joined._replace(state=state)

    def _change(self, variable: keras.Variable, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the mean change of a variable; of whole numbers, that of one device.

        The mean of changes, and not of values, leaves frozen weights as they are to the last bit.
        """
        if values[0].dtype.is_floating:
            return _mean([value - variable.value for value in values])
        return values[0] - tf.cast(self._first, values[0].dtype) - variable.value

    def _of_all_processes(self, own: Gradients, size: tf.Tensor) -> Gradients:
        """Return the means over all processes, and the logits of the whole batch.

        Args:
            own: What this process has found, with the changes of the state instead of its values.
            size: Number of images of a part, int32 scalar.
        """
        if self._group is None:
            return own
        before = self._first * size
        after = self._num_parts * size - before - tf.shape(own.logits)[0]
        padded = tf.pad(tf.cast(own.logits, tf.float32), [[before, after], [0, 0]])
        floating = [each for each in own.state if each.dtype.is_floating]
        loss, logits, *others = self._group.sum([own.loss, padded, *own.gradients, *floating])
        means = [each / self._group.size for each in others]
        gradients, found = means[: len(own.gradients)], iter(means[len(own.gradients) :])
        state = [next(found) if each.dtype.is_floating else each for each in own.state]
        return Gradients(loss / self._group.size, logits, gradients, state)

    def _gradients_of_part(
        self,
        number: int,
        part: tuple,
        trainable: list[tf.Tensor],
        state: list[tf.Tensor],
        loss_scale: tf.Tensor,
    ) -> Gradients:
        """Return the gradients of a device's part of a batch.

        Args:
            number: Number of the part.
            part: Inputs, targets and weights of the images.
            trainable, state: Copies of the variables on this device, which the model reads instead.
            loss_scale: As in `__call__`.
        """
        inputs, targets, weights = part
        # Whole numbers are the states of random numbers. Each device drops other units.
        state = [each if each.dtype.is_floating else each + number for each in state]
        copies = [
            *zip(self._model.trainable_variables, trainable, strict=True),
            *zip(self._stateful, state, strict=True),
        ]
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            with keras.StatelessScope(copies, collect_losses=True) as scope:
                logits = self._model(inputs, training=True)
                loss = self._compute_loss(inputs, targets, logits, weights)
            scaled = loss * loss_scale
        gradients = tape.gradient(scaled, trainable)
        return Gradients(
            loss,
            logits,
            [tf.convert_to_tensor(gradient) for gradient in gradients],
            [tf.convert_to_tensor(scope.get_current_value(each)) for each in self._stateful],
        )


def _mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(values) / len(values)


def refuse_indivisible(batch_size: int, num_parts: int) -> None:
    """Raise RequestError if a batch cannot be divided equally among all devices."""
    if batch_size % num_parts:
        raise RequestError(
            f"training.batch_size = {batch_size} cannot be divided among {num_parts} devices; set "
            "a multiple, or fewer devices"
        )
