"""Network + augmentation + loss in one compiled train step."""

import keras
import tensorflow as tf

from cifar_models.augmentation.augment import augment_batch
from cifar_models.config.recipe import AugmentationConfig
from cifar_models.data.pipeline import MemoryImages
from cifar_models.errors import RunError
from cifar_models.optimizers.lookahead import Lookahead
from cifar_models.optimizers.weight_average import WeightAverage

NO_STEP = -1


class Trainer(keras.Model):
    """What `fit` trains: augments a batch on the device, then takes Keras' own train step.

    The random numbers of a step are a function of (seed, step) alone. The step is counted here:
    an optimizer that scales the loss skips some in its own count. Label smoothing is part of
    the targets of training alone; the loss includes what the network's regulariser adds.

    Args:
        network: uint8 (B, H, W, C) → float32 logits (B, K).
        augmentation: the recipe's table.
        label_smoothing: 0 to 1, the share of each target spread evenly over the classes.
        seed: of the augmentation.
        steps_per_epoch: full batches in the training split.
        total_steps: of the whole run.
        average: of the weights, moved at each step.
        lookahead: pulls the weights back every few steps.
        resident: the training images in the device's own memory; batches are then (indices int64
            (B,), flip_mask bool (B,)), else (images, labels, flip_mask).
    """

    def __init__(
        self,
        network: keras.Model,
        augmentation: AugmentationConfig,
        label_smoothing: float,
        seed: int,
        steps_per_epoch: int,
        total_steps: int,
        average: WeightAverage | None = None,
        lookahead: Lookahead | None = None,
        resident: MemoryImages | None = None,
    ):
        super().__init__(name="trainer")
        self.network = network
        self.augmentation = augmentation
        self.label_smoothing = label_smoothing
        # A variable of the step and no constant, so that what XLA compiled serves every seed.
        self.seed = self._counter("seed", seed)
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.average = average
        self.lookahead = lookahead
        self.resident = resident
        self.num_classes = network.output_shape[-1]
        self.step = self._counter("step", 0)
        # The first step whose loss was NaN or infinite, and the learning rate of the last step
        # before or at it: noted by the step itself, so that nobody waits for the device each time.
        self.diverged_step = self._counter("diverged_step", NO_STEP)
        self.last_rate = self.add_weight((), "zeros", trainable=False, name="last_rate")
        self.accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")

    def _counter(self, name: str, value: int) -> keras.Variable:
        initializer = keras.initializers.Constant(value)
        return self.add_weight((), initializer, dtype="int64", trainable=False, name=name)

    @property
    def measured_network(self) -> keras.Model:
        """What validation and the run's end measure: the averages where there are some."""
        return self.average.network if self.average else self.network

    def call(self, images, training=None):
        return self.network(images, training=training)

    def train_step(self, batch):
        if self.resident:
            batch = self.resident(*batch)
        images, labels, flip_mask = batch  # uint8 (B, H, W, C), int64 (B,), bool (B,)
        step = tf.cast(self.step, tf.int32)
        results = super().train_step(self.augmented(images, labels, flip_mask, step))
        if self.lookahead:
            self.lookahead.update(step)
        if self.average:
            self.average.update(self.step)
        self.step.assign_add(1)
        return results

    def compute_loss(self, *args, training=True, **kwargs):
        loss = super().compute_loss(*args, training=training, **kwargs)
        if training:
            went_well = self.diverged_step == NO_STEP
            rate = tf.cast(self.optimizer.learning_rate, tf.float32)
            self.last_rate.assign(tf.where(went_well, rate, self.last_rate))
            diverges = went_well & ~tf.math.is_finite(loss)
            self.diverged_step.assign(tf.where(diverges, self.step, self.diverged_step))
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.accuracy.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def reset_metrics(self):
        """Keras calls it as an epoch begins; one that was broken off goes on with what it has."""
        if int(self.step) % self.steps_per_epoch == 0:
            super().reset_metrics()

    def augmented(
        self, images: tf.Tensor, labels: tf.Tensor, flip_mask: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the network sees at a step: uint8 (B, H, W, C) and float32 (B, K).

        `flip_mask`, bool (B,), says which images the alternating flip turns in this epoch.
        """
        if self.augmentation.alternating_flip:
            images = tf.where(flip_mask[:, None, None, None], tf.reverse(images, [2]), images)
        targets = tf.one_hot(labels, self.num_classes)
        smoothing = self.label_smoothing
        targets = (1 - smoothing) * targets + smoothing / self.num_classes
        key = tf.stack([tf.cast(self.seed, tf.int32), step])
        progress = tf.cast(step, tf.float32) / self.total_steps
        return augment_batch(self.augmentation, images, targets, key, progress)


def check_divergence(trainer: Trainer, step: int) -> None:
    """Raises RunError if any step so far had a loss that is NaN or infinite."""
    if int(trainer.diverged_step) != NO_STEP:
        raise diverged("the loss is no longer finite", trainer, step)


def diverged(what: str, trainer: Trainer, step: int) -> RunError:
    """Says where training diverged: at the step that was noted, or else at the last one done."""
    noted = int(trainer.diverged_step)
    at = step if noted == NO_STEP else noted + 1  # counted from 1
    return RunError(
        f"{what} at step {at}, learning rate {float(trainer.last_rate):.3g}: training diverged; "
        "lower training.peak_learning_rate or set training.gradient_clip_norm"
    )
