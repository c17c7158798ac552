"""The augmentation of a batch inside the compiled train step.

Every augmentation is a stateless function of (batch, random key, config). So that it compiles under
XLA, crops are gather operations and random choices are masks. Random keys are int32 (2,), as for
TensorFlow's `stateless_*` functions.
"""

from pkgutil import resolve_name

import tensorflow as tf

from cifar_models.augmentation.batch import Batch
from cifar_models.augmentation.stateless_random import fold_key, split_key
from cifar_models.config.augmentation import AUGMENTATIONS, AugmentationConfig

# Streams below this number get their keys from one split of the step's key. Each later stream folds
# its number into the step's key, so that a new stream changes no other one.
SPLIT_STREAMS = 6


def augment_batch(config: AugmentationConfig, batch: Batch, key: tf.Tensor) -> Batch:
    """Apply the augmentations that the recipe switches on, in the order of AUGMENTATIONS.

    Args:
        config: The `augmentation` table.
        batch: Images and targets of the step.
        key: Random key of the step, int32 (2,).

    Returns:
        The augmented batch, of the same shapes and dtypes.

    Raises:
        ValueError: Two entries of AUGMENTATIONS have the same stream.
    """
    streams = [spec.stream for spec in AUGMENTATIONS.values()]
    if len(set(streams)) < len(streams):
        raise ValueError(
            f"AUGMENTATIONS: two entries have the same stream: {streams}; give each its own number"
        )
    keys = split_key(key, SPLIT_STREAMS)
    for spec in AUGMENTATIONS.values():
        if any(getattr(config, name, 0) for name in spec.keys):
            is_split = spec.stream < SPLIT_STREAMS
            own_key = keys[spec.stream] if is_split else fold_key(key, spec.stream)
            batch = resolve_name(spec.apply)(batch, own_key, config)
    return batch
