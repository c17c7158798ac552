"""AdamW with decoupled weight decay."""

import keras

from cifar_models.config.training import TrainingConfig
from cifar_models.optimizers.schedules import CachedLearningRate, Schedule


class AdamW(CachedLearningRate, keras.optimizers.AdamW):
    """Keras' AdamW with a learning rate that is computed once per step."""


def make_adamw(config: TrainingConfig, schedule: Schedule) -> AdamW:
    """Build AdamW.

    `adamw_epsilon` is the epsilon-hat of the source: it is added to the square root of the second
    moment before the correction of the bias.

    Source: Loshchilov and Hutter (2017), arXiv:1711.05101; for epsilon, Kingma and Ba (2014),
    arXiv:1412.6980, section 2.
    """
    return AdamW(
        learning_rate=schedule,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.adamw_epsilon,
        weight_decay=config.weight_decay,
        global_clipnorm=config.gradient_clip_norm or None,
    )
