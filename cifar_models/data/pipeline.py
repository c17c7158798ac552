"""The tf.data chain: which images make up the batch of (seed, step).

The data is addressed, not iterated. There is no shuffle buffer and no iterator state: to begin at
step k is to start the range at k.
"""

import tensorflow as tf

from cifar_models.data.splits import Split


def make_training_batches(
    split: Split, batch_size: int, seed: int, first_step: int, total_steps: int
) -> tf.data.Dataset:
    """Returns batches first_step … total_steps - 1 of a run, as (images, labels).

    An epoch is N // batch_size steps over a permutation of its own, so no image comes twice
    within one; the few that are left over are others in each epoch.

    Args:
        split: N images in memory, uint8 (N, H, W, C), with labels int64 (N,).
        batch_size: B, at most N.
        seed: with the epoch it decides the permutation.
        first_step: 0, or the step at which to go on.
        total_steps: of the whole run.

    Returns:
        A dataset of known cardinality: images uint8 (B, H, W, C), labels int64 (B,).
    """
    images, labels = tf.constant(split.images), tf.constant(split.labels)

    def batch_of(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        indices = batch_indices(step, len(split.labels), batch_size, seed)
        return tf.gather(images, indices), tf.gather(labels, indices)

    batches = tf.data.Dataset.range(first_step, total_steps)
    batches = batches.map(batch_of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def batch_indices(step: tf.Tensor, num_images: int, batch_size: int, seed: int) -> tf.Tensor:
    """Returns which of the images are in the batch of (seed, step): int64 (B,)."""
    steps_per_epoch = num_images // batch_size
    epoch = step // steps_per_epoch
    positions = (step % steps_per_epoch) * batch_size + tf.range(batch_size, dtype=tf.int64)
    key = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.experimental.index_shuffle(positions, seed=key, max_index=num_images - 1)


def make_ordered_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Returns every image once, in order; the last batch may be smaller."""
    batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
    return batches.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(split: Split, batch_size: int) -> int:
    return len(split.labels) // batch_size
