"""The construction of the network that a `model` table describes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pkgutil import resolve_name
from typing import TypeVar

import keras

from cifar_models.config.architectures import ARCHITECTURES, ModelConfig

Result = TypeVar("Result")


def build_network(
    config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int
) -> keras.Model:
    """Build a network from images, uint8 (B, H, W, C), to logits, float32 (B, K).

    Args:
        config: The `model` table, of an architecture in ARCHITECTURES.
        image_shape: Shape (H, W, C) of the images of the data set.
        num_classes: Number of classes K.

    Raises:
        ValueError: ARCHITECTURES has several builders, or none, for the class of the table.
    """
    cls = type(config)
    builders = {each.builder for each in ARCHITECTURES.values() if type(each.config) is cls}
    if len(builders) != 1:
        raise ValueError(
            f"ARCHITECTURES has {len(builders)} builders for {cls.__name__}; it needs exactly one, "
            "so give each builder a class of its own"
        )
    return resolve_name(builders.pop())(config, image_shape, num_classes)


def without_weights(function: Callable[[], Result]) -> Result:
    """Return what a function returns that builds networks, whose weights are not allocated.

    The networks have shapes, but no values. A precision policy that the function sets ends with it.

    Args:
        function: The function. It is called in a thread of its own, because Keras would initialize
            the weights later in this one.
    """

    def call() -> Result:
        with keras.StatelessScope(initialize_variables=False):
            return function()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(call).result()
