"""Stochastic depth and its schedule over the blocks of a network."""

import keras
from keras import ops

from cifar_models.layers.serialization import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class StochasticDepth(keras.layers.Layer):
    """Stochastic depth for residual branches: (B, …) → (B, …).

    During training, drops the whole branch of randomly chosen samples. The branches that remain
    are divided by 1 - rate, so inference needs no scaling.

    Args:
        rate: Drop probability, in [0, 1).
        seed: Seed of the random numbers; None draws one from Keras' global generator.

    Raises:
        ValueError: rate is outside [0, 1).

    Source: Huang et al. (2016), arXiv:1603.09382, section 3.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate {rate} must be at least 0 and below 1")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True  # `Model.quantize` refuses layers that are not

    def call(self, branch, training=False):
        if not training or self.rate == 0:
            return branch
        shape = (ops.shape(branch)[0],) + (1,) * (len(branch.shape) - 1)  # (B, 1, …)
        uniform = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        is_kept = ops.cast(uniform >= self.rate, branch.dtype)
        return branch * is_kept / (1 - self.rate)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def depth_rates(last_rate: float, num_blocks: int) -> list[float]:
    """Return the drop rate of each block, which rises linearly from 0 to last_rate.

    Args:
        last_rate: Drop probability of the last block, in [0, 1).
        num_blocks: Number of blocks, at least 1.

    Source: Huang et al. (2016), arXiv:1603.09382, section 3.
    """
    return [last_rate * block / max(num_blocks - 1, 1) for block in range(num_blocks)]
