"""Network + augmentation + loss in one compiled train step."""

import keras
import tensorflow as tf

from cifar_models.data.augment import augment_batch
from cifar_models.recipe import AugmentationRecipe


class Trainer(keras.Model):
    """What `fit` trains: augments a batch on the device, then takes Keras' own train step.

    The random numbers of a step are a function of (seed, step) alone. Label smoothing is part of
    the targets of training alone; both losses include what the network's regulariser adds.

    Args:
        network: uint8 (B, H, W, C) → float32 logits (B, K).
        augmentation: the recipe's table.
        label_smoothing: 0 to 1, the share of each target spread evenly over the classes.
        seed: of the augmentation.
        total_steps: of the whole run.
    """

    def __init__(
        self,
        network: keras.Model,
        augmentation: AugmentationRecipe,
        label_smoothing: float,
        seed: int,
        total_steps: int,
    ):
        super().__init__(name="trainer")
        self.network = network
        self.augmentation = augmentation
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.total_steps = total_steps
        self.num_classes = network.output_shape[-1]

    def call(self, images, training=None):
        return self.network(images, training=training)

    def train_step(self, batch):
        images, labels = batch  # uint8 (B, H, W, C), int64 (B,)
        step = tf.cast(self.optimizer.iterations, tf.int32)
        return super().train_step(self.augmented(images, labels, step))

    def test_step(self, batch):
        images, labels = batch
        return super().test_step((images, tf.one_hot(labels, self.num_classes)))

    def augmented(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the network sees at a step: uint8 (B, H, W, C) and float32 (B, K)."""
        targets = tf.one_hot(labels, self.num_classes)
        smoothing = self.label_smoothing
        targets = (1 - smoothing) * targets + smoothing / self.num_classes
        key = tf.stack([tf.constant(self.seed, tf.int32), step])
        progress = tf.cast(step, tf.float32) / self.total_steps
        return augment_batch(self.augmentation, images, targets, key, progress)
