"""Random numbers as a function of a key, int32 (2,), the same on every device, with XLA or without."""

from functools import partial

import tensorflow as tf

# TensorFlow would choose by device otherwise.
uniform = partial(tf.random.stateless_uniform, alg="philox")


def split_key(key: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Derives `count` independent keys from one."""
    return tf.unstack(uniform((count, 2), key, minval=None, maxval=None, dtype=tf.int32))
