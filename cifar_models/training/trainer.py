"""Network, augmentation and loss in one compiled train step."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from cifar_models.augmentation.augment import augment_batch
from cifar_models.augmentation.batch import Batch
from cifar_models.config.keys import MAX_WHOLE_NUMBER
from cifar_models.config.recipe import Recipe
from cifar_models.data.pipeline import ResidentImages
from cifar_models.errors import Divergence
from cifar_models.layers.feature_projection import TEACHER_PROJECTION, FeatureProjection
from cifar_models.models.encoder import LAST_NORM
from cifar_models.optimizers.lookahead import Lookahead
from cifar_models.optimizers.weight_average import WeightAverage
from cifar_models.runtime.process_group import ProcessGroup
from cifar_models.training.data_parallel import DataParallelGradients
from cifar_models.training.teacher_features import TeacherFeatures

NO_STEP = -1


class Trainer(keras.Model):
    """The model that Keras fits: augments a batch on the device, then takes Keras' train step.

    The random numbers of a step are a function of (seed, step) only. The step is counted here,
    because an optimizer with loss scaling does not count the steps that it skips. Label smoothing
    applies to training targets only. The loss includes the regularization losses of the network.

    Args:
        network: uint8 images (B, H, W, C) → float32 logits (B, K).
        recipe: Its `training` and `augmentation` tables and its seed are used.
        steps_per_epoch: Number of full batches in the training split.
        average: Moving average of the weights, updated after every step.
        lookahead: Slow weights, synchronized every few steps.
        resident: The training images on the device. A batch is then (indices, int64 (B,); flip
            mask, bool (B,)), and otherwise (images, labels, flip mask).
    """

    def __init__(
        self,
        network: keras.Model,
        recipe: Recipe,
        steps_per_epoch: int,
        average: WeightAverage | None = None,
        lookahead: Lookahead | None = None,
        resident: ResidentImages | None = None,
    ):
        super().__init__(name="trainer")
        self.network = network
        self.recipe = recipe
        # A variable instead of a constant, so that one compiled step serves every seed.
        self.seed = self._counter("seed", recipe.runtime.seed)
        self.steps_per_epoch = steps_per_epoch
        # Finished fraction of a run with a time budget, set before each execution.
        self.finished_fraction: keras.Variable | None = None
        self.total_steps = recipe.training.epochs * steps_per_epoch
        if recipe.training.budget_seconds:
            self.finished_fraction = self.add_weight(
                (), "zeros", trainable=False, name="finished_fraction"
            )
            self.total_steps = MAX_WHOLE_NUMBER // steps_per_epoch * steps_per_epoch
        self.average = average
        self.lookahead = lookahead
        self.resident = resident
        self.num_classes = network.output_shape[-1]
        self.step = self._counter("step", 0)
        # The first step with a non-finite loss, and the last learning rate up to it. They are
        # recorded on the device, so that the host need not wait for it after every step.
        self.diverged_step = self._counter("diverged_step", NO_STEP)
        self.last_rate = self.add_weight((), "zeros", trainable=False, name="last_rate")
        self.accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
        self.teacher: TeacherFeatures | None = None
        self.class_weights: tf.Tensor | None = None
        self.parallel: DataParallelGradients | None = None

    def _counter(self, name: str, value: int) -> keras.Variable:
        initializer = keras.initializers.Constant(value)
        return self.add_weight((), initializer, dtype="int64", trainable=False, name=name)

    @property
    def evaluated_network(self) -> keras.Model:
        """The network that is validated and saved: the averaged one if there is an average."""
        return self.average.network if self.average else self.network

    def add_teacher(self, teacher: TeacherFeatures) -> None:
        """Add to the loss how well the tokens predict a teacher's features.

        It is the mean squared error of standardized features, times `training.teacher_weight`. Call
        it before the optimizer is built, because the projection of the tokens has weights.

        Args:
            teacher: The features. Each batch then ends with those of its images, float16
                (B, h, w, c).
        """
        self.teacher = teacher
        tokens = self.network.get_layer(LAST_NORM).output  # (B, N, D)
        self.network_with_tokens = keras.Model(self.network.input, [self.network.output, tokens])
        self.projection = FeatureProjection(*teacher.map_shape, name=TEACHER_PROJECTION)
        self.projection.build(tokens.shape)

    def weigh_classes(self, weights: np.ndarray) -> None:
        """Multiply the loss of each image by the weight of its class, float32 (K,).

        The loss of a mixed image has the mean weight of its classes.
        """
        self.class_weights = tf.constant(weights)

    def _sample_weights(self, targets: tf.Tensor) -> tf.Tensor | None:
        """Return the weights of images, float32 (B,), from their targets, float32 (B, K)."""
        if self.class_weights is None:
            return None
        smoothing = self.recipe.training.label_smoothing
        shares = (targets - smoothing / self.num_classes) / (1 - smoothing)  # (B, K)
        return tf.linalg.matvec(shares, self.class_weights)

    def call(self, inputs, training=None):
        if self.teacher is None:
            return self.network(inputs, training=training)
        images, features = inputs  # uint8 (B, H, W, C), float16 (B, h, w, c)
        logits, tokens = self.network_with_tokens(images, training=training)  # (B, K), (B, N, D)
        error = tf.cast(self.projection(tokens), tf.float32) - tf.cast(features, tf.float32)
        self.add_loss(self.recipe.training.teacher_weight * tf.reduce_mean(tf.square(error)))
        return logits

    def train_step(self, batch):
        if self.resident:
            batch = self.resident(*batch)
        images, labels, flip_mask, *features = batch  # uint8 (B, H, W, C), int64 (B,), bool (B,)
        step = tf.cast(self.step, tf.int32)
        images, targets = self.augmented(images, labels, flip_mask, step)
        inputs = (images, *features) if features else images
        weights = self._sample_weights(targets)
        if self.parallel:
            results = self._parallel_step(inputs, targets, weights)
        else:
            results = super().train_step((inputs, targets, weights))
        if self.lookahead:
            self.lookahead.update(step)
        if self.average:
            self.average.update(self.step)
        self.step.assign_add(1)
        return results

    def train_on(
        self, devices: Sequence[str], xla: bool, group: ProcessGroup | None = None
    ) -> None:
        """Divide each batch among several devices. Call it before the first step.

        Args:
            devices: Names of the devices. The first one holds the weights.
            xla: Whether XLA compiles the work of each device.
            group: The processes among which each batch is divided first. None: there is one.
        """
        stateful = self.network.non_trainable_variables
        self.parallel = DataParallelGradients(
            self, super().compute_loss, stateful, devices, xla, group
        )

    def _parallel_step(self, inputs, targets, weights):
        """Take Keras' train step, with the gradients of several devices."""
        assert self.parallel
        loss_scale = self.optimizer.scale_loss(tf.ones(()))
        loss, logits, gradients, _ = self.parallel(inputs, targets, weights, loss_scale)
        self._note_divergence(loss)
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(targets)[0])
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self.compute_metrics(inputs, targets, logits, weights)

    def compute_loss(self, *args, training=True, **kwargs):
        loss = super().compute_loss(*args, training=training, **kwargs)
        if training:
            self._note_divergence(loss)
        return loss

    def _note_divergence(self, loss: tf.Tensor) -> None:
        is_finite_so_far = self.diverged_step == NO_STEP
        rate = tf.cast(self.optimizer.learning_rate, tf.float32)
        self.last_rate.assign(tf.where(is_finite_so_far, rate, self.last_rate))
        diverges = is_finite_so_far & ~tf.math.is_finite(loss)
        self.diverged_step.assign(tf.where(diverges, self.step, self.diverged_step))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.accuracy.update_state(y, y_pred)  # not weighted, like every other accuracy
        return self.get_metrics_result()

    def reset_metrics(self):
        """Reset the metrics at the start of an epoch. A resumed epoch keeps its metrics."""
        if int(self.step) % self.steps_per_epoch == 0:
            super().reset_metrics()

    def augmented(
        self, images: tf.Tensor, labels: tf.Tensor, flip_mask: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the images and targets of a step, uint8 (B, H, W, C) and float32 (B, K).

        Args:
            images: Images, uint8 (B, H, W, C).
            labels: Labels, int64 (B,).
            flip_mask: Images that alternating flip flips in this epoch, bool (B,).
            step: The step, int32 scalar, counted from 0.
        """
        config = self.recipe.augmentation
        if config.alternating_flip:
            images = tf.where(flip_mask[:, None, None, None], tf.reverse(images, [2]), images)
        targets = tf.one_hot(labels, self.num_classes)
        smoothing = self.recipe.training.label_smoothing
        targets = (1 - smoothing) * targets + smoothing / self.num_classes
        key = tf.stack([tf.cast(self.seed, tf.int32), step])
        progress = self.finished_fraction
        if progress is None:
            progress = tf.cast(step, tf.float32) / self.total_steps
        batch = augment_batch(config, Batch(images, targets, progress), key)
        return batch.images, batch.targets


def check_divergence(trainer: Trainer, step: int) -> None:
    """Raise Divergence if the loss of any step so far was NaN or infinite.

    Args:
        trainer: The trainer.
        step: Number of finished steps.
    """
    if int(trainer.diverged_step) != NO_STEP:
        raise divergence_error("the loss is no longer finite", trainer, step)


def divergence_error(what: str, trainer: Trainer, step: int) -> Divergence:
    """Return an error that names the first diverged step, or `step` if no loss diverged.

    Args:
        what: Start of the message, such as "the loss is no longer finite".
        trainer: The trainer.
        step: Number of finished steps.
    """
    diverged_step = int(trainer.diverged_step)
    at = step if diverged_step == NO_STEP else diverged_step + 1  # counted from 1
    return Divergence(
        f"{what} at step {at}, learning rate {float(trainer.last_rate):.3g}: training diverged; "
        "lower training.peak_learning_rate or set training.gradient_clip_norm"
    )
