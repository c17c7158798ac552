"""Random numbers as a function of a key, int32 (2,); the same with XLA and without."""

import tensorflow as tf


def uniform(shape: tuple[int, ...], key: tf.Tensor) -> tf.Tensor:
    """Draws float32 numbers from 0 to below 1.

    Built from bits, on which TensorFlow and XLA agree; of floats drawn from the same key they
    return different ones.
    """
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24


def uniform_integers(shape: tuple[int, ...], key: tf.Tensor, limit: int) -> tf.Tensor:
    """Draws int32 numbers from 0 to limit - 1."""
    return tf.cast(tf.floor(uniform(shape, key) * limit), tf.int32)


def split_key(key: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Derives `count` independent keys from one."""
    bits = tf.random.stateless_uniform(
        (count, 2), key, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.unstack(bits)
