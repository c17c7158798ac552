"""Augment a batch inside the compiled train step.

Every augmentation is a stateless function of (batch, random key, config), and compiles under XLA:
crops are gathers, choices are masks. Keys are int32 (2,), as TensorFlow's `stateless_*` functions
take them.
"""

from pkgutil import resolve_name

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import split_key
from cifar_models.config.augmentation import AUGMENTATIONS, AugmentationConfig


def augment_batch(config: AugmentationConfig, batch: Batch, key: tf.Tensor) -> Batch:
    """Apply the augmentations that the recipe switches on, in the order of AUGMENTATIONS.

    Args:
        config: The `augmentation` table.
        batch: The batch.
        key: Random key of this step, int32 (2,).
    """
    # The first keys are the same however many there are, so that an additional augmentation does
    # not change the random numbers of the others.
    num_streams = 1 + max(spec.stream for spec in AUGMENTATIONS.values())
    keys = split_key(key, num_streams)
    for spec in AUGMENTATIONS.values():
        if any(getattr(config, name, 0) for name in spec.keys):
            batch = resolve_name(spec.apply)(batch, keys[spec.stream], config)
    return batch
