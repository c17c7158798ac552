"""The tf.data pipeline, in which each batch is a function of (seed, step).

There is no shuffle buffer and no iterator state: a run that resumes at step k reads a range of
steps that starts at k.
"""

import numpy as np
import tensorflow as tf

from cifar_models.data.splits import ArraySplit, Split


def make_training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_step: int,
    end_step: int,
    feature_maps: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Return the batches of steps first_step to end_step - 1 of a run.

    Args:
        split: The N training images.
        batch_size: Batch size B, at most N.
        seed: As for `make_training_indices`.
        first_step: As for `make_training_indices`.
        end_step: As for `make_training_indices`.
        feature_maps: As for `ResidentImages`.

    Returns:
        A dataset of known cardinality with what `ResidentImages` returns.
    """
    kind = ResidentImages if isinstance(split, ArraySplit) else StreamedImages
    with tf.device("CPU"):  # by default, a GPU would hold the images
        gather = kind(split, feature_maps)
    indices = make_training_indices(len(split), batch_size, seed, first_step, end_step)
    batches = indices.map(gather, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def make_training_indices(
    num_images: int, batch_size: int, seed: int, first_step: int, end_step: int
) -> tf.data.Dataset:
    """Return the image indices and flip masks of steps first_step to end_step - 1.

    An epoch is N // B steps over a permutation of its own, so no image occurs twice in an epoch.
    The last partial batch is dropped; which images that affects changes every epoch. The flip mask
    is that of alternating flip: a random half of the images is flipped in the first epoch, the
    other half in the second, and so on.

    Args:
        num_images: Number of training images N.
        batch_size: Batch size B, at most N.
        seed: Seed of the permutations, together with the epoch.
        first_step: 0, or the step at which a run resumes.
        end_step: The step after the last one.

    Returns:
        A dataset of known cardinality with indices, int64 (B,), below N, and flip mask, bool (B,).

    Source: Jordan (2024), arXiv:2404.00498, section 3.6, for alternating flip.
    """
    first_flip_mask = tf.constant(np.random.default_rng(seed).random(num_images) < 0.5)
    steps_per_epoch = num_images // batch_size

    def indices_of(epoch: tf.Tensor) -> tf.data.Dataset:
        indices = epoch_order(epoch, num_images, seed)[: steps_per_epoch * batch_size]
        flip_mask = tf.gather(first_flip_mask, indices) ^ (epoch % 2 == 1)
        return tf.data.Dataset.from_tensor_slices(
            (tf.reshape(indices, (-1, batch_size)), tf.reshape(flip_mask, (-1, batch_size)))
        )

    first_epoch, steps_into_it = divmod(first_step, steps_per_epoch)
    num_epochs = -(-end_step // steps_per_epoch)
    batches = tf.data.Dataset.range(first_epoch, num_epochs).flat_map(indices_of)
    batches = batches.skip(steps_into_it).take(end_step - first_step)
    batches = batches.apply(tf.data.experimental.assert_cardinality(end_step - first_step))
    return batches.prefetch(tf.data.AUTOTUNE)


class ResidentImages:
    """All images and labels of a split as tensors, in the memory of the current device.

    Args:
        split: The N images.
        feature_maps: Features of a teacher for each image and for its mirror image, float16
            (N, 2, h, w, c). None: there is no teacher.
    """

    def __init__(self, split: Split, feature_maps: np.ndarray | None = None):
        self._load_images(split)
        self._labels = tf.constant(split.labels)
        self._maps = None if feature_maps is None else tf.constant(feature_maps)

    def _load_images(self, split: Split) -> None:
        self._images = tf.constant(split.images_at(slice(None)))

    def __call__(self, indices: tf.Tensor, flip_mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return images, uint8 (B, H, W, C), labels, int64 (B,), and flip mask, bool (B,).

        With a teacher, the fourth value is its features of the images, float16 (B, h, w, c). Those
        of the mirror image are used where the flip mask is set.

        Args:
            indices: Image indices, int64 (B,).
            flip_mask: Images to flip, bool (B,).
        """
        batch = self._images_at(indices), tf.gather(self._labels, indices), flip_mask
        if self._maps is None:
            return batch
        views = tf.stack([indices, tf.cast(flip_mask, indices.dtype)], axis=1)
        return *batch, tf.gather_nd(self._maps, views)

    def _images_at(self, indices: tf.Tensor) -> tf.Tensor:
        """Return images, uint8 (B, H, W, C), of indices, int64 (B,)."""
        return tf.gather(self._images, indices)


class StreamedImages(ResidentImages):
    """The labels of a split as a tensor, and its images, which are read for each batch.

    Args:
        split: As for `ResidentImages`.
        feature_maps: As for `ResidentImages`.
    """

    def _load_images(self, split: Split) -> None:
        self._split = split

    def _images_at(self, indices: tf.Tensor) -> tf.Tensor:
        images = tf.numpy_function(self._split.images_at, [indices], tf.uint8)
        images.set_shape((*indices.shape, *self._split.image_shape))
        return images


def epoch_order(epoch: tf.Tensor, num_images: int, seed: int) -> tf.Tensor:
    """Return the order of the images in an epoch.

    It costs one sort for each epoch. `tf.random.experimental.index_shuffle` would need none, but
    its permutations are far from uniform: some of 1,293 images came 29 standard errors too early
    on average.

    Args:
        epoch: Epoch, int64 scalar, counted from 0.
        num_images: Number of images N.
        seed: Seed of the permutations, together with the epoch.

    Returns:
        Permutation of 0 to N - 1, int64 (N,).
    """
    key = tf.stack([tf.constant(seed, tf.int64), epoch])
    indices = tf.range(num_images, dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(indices, seed=key, alg="philox")
