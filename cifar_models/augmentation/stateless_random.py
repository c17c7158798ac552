"""Random numbers that are functions of a key, int32 (2,), and equal with and without XLA."""

import tensorflow as tf


def uniform(shape: tuple[int, ...], key: tf.Tensor) -> tf.Tensor:
    """Draw float32 numbers in [0, 1).

    They are built from random bits: from one key, TensorFlow and XLA draw the same bits, but
    different floats.

    Args:
        shape: Shape of the result.
        key: Random key, int32 (2,).
    """
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24


def uniform_integers(shape: tuple[int, ...], key: tf.Tensor, limit: int) -> tf.Tensor:
    """Draw int32 numbers from 0 to limit - 1.

    Args:
        shape: Shape of the result.
        key: Random key, int32 (2,).
        limit: Number of possible values, at least 1.
    """
    return tf.cast(tf.floor(uniform(shape, key) * limit), tf.int32)


def split_key(key: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Derive `count` independent keys, int32 (2,) each, from one key."""
    bits = tf.random.stateless_uniform(
        (count, 2), key, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.unstack(bits)


def fold_key(key: tf.Tensor, number: int) -> tf.Tensor:
    """Derive a key, int32 (2,), from a key and a number, independently of other numbers."""
    return tf.random.experimental.stateless_fold_in(key, number, alg="philox")
