"""Stochastic depth: Huang et al. 2016, arXiv:1603.09382."""

import keras
from keras import ops

from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class StochasticDepth(keras.layers.Layer):
    """While training, drops a residual branch whole, for each sample on its own.

    What stays is divided by the probability of staying, so that inference needs no scaling.
    Any shape (B, …) → the same.

    Args:
        rate: probability that a sample's branch is dropped, at least 0 and below 1.
        seed: of the random numbers.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate {rate} must be at least 0 and below 1")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, branch, training=False):
        if not training or self.rate == 0:
            return branch
        shape = (ops.shape(branch)[0],) + (1,) * (len(branch.shape) - 1)
        uniform = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        kept = ops.cast(uniform >= self.rate, branch.dtype)
        return branch * kept / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def depth_rates(last_rate: float, num_blocks: int) -> list[float]:
    """Returns a drop rate for each block, rising linearly from 0 to last_rate."""
    return [last_rate * block / max(num_blocks - 1, 1) for block in range(num_blocks)]
