"""Augment a batch inside the compiled train step.

Every augmentation is a stateless function of (batch, random key, config), and compiles under XLA:
crops are gathers, choices are masks. Keys are int32 (2,), as TensorFlow's `stateless_*` functions
take them.
"""

from pkgutil import resolve_name

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import fold_key, split_key
from cifar_models.config.augmentation import AUGMENTATIONS, AugmentationConfig

# The keys of the streams below this number are split from the key of the step, all at once. Those
# of other streams are folded from it one by one, so that an addition changes no other stream.
SPLIT_STREAMS = 6


def augment_batch(config: AugmentationConfig, batch: Batch, key: tf.Tensor) -> Batch:
    """Apply the augmentations that the recipe switches on, in the order of AUGMENTATIONS.

    Args:
        config: The `augmentation` table.
        batch: The batch.
        key: Random key of this step, int32 (2,).
    """
    streams = [spec.stream for spec in AUGMENTATIONS.values()]
    if len(set(streams)) < len(streams):
        raise ValueError(f"two AUGMENTATIONS have the same stream of random numbers: {streams}")
    keys = split_key(key, SPLIT_STREAMS)
    for spec in AUGMENTATIONS.values():
        if any(getattr(config, name, 0) for name in spec.keys):
            is_split = spec.stream < SPLIT_STREAMS
            own_key = keys[spec.stream] if is_split else fold_key(key, spec.stream)
            batch = resolve_name(spec.apply)(batch, own_key, config)
    return batch
