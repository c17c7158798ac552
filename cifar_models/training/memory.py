"""The memory that training takes, estimated before a weight is allocated; and running out of it."""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from cifar_models.config.model_tables import TransformerConfig
from cifar_models.config.recipe import Recipe
from cifar_models.config.training import TrainingConfig
from cifar_models.data.memory import TENSOR_COPIES
from cifar_models.data.splits import Split, bytes_in_memory
from cifar_models.errors import RunError
from cifar_models.models.activations import output_bytes
from cifar_models.models.catalog import build_network, without_weights
from cifar_models.runtime.device import choose_precision
from cifar_models.runtime.memory import in_words, refuse_if_too_large

# Part of the outputs of all layers that a training step needs at the same time, at least. Without
# it, the growth of memory in the first three steps on a CPU, divided by the estimate, was 0.67
# (resnet18), 0.72 (cnn), 0.87 (hybrid) and 0.89 (vit) between a small batch and a large one.
ACTIVATIONS_HELD = 0.6
# Arrays as large as the weights, besides weights and gradients.
OPTIMIZER_SLOTS = {"adamw": 2}  # all others have one at least


def refuse_training_that_does_not_fit(
    recipe: Recipe, train: Split, num_classes: int, feature_bytes: int = 0
) -> None:
    """Raise RequestError if less memory is left than training takes. On a GPU, nothing is checked.

    It neither allocates weights nor changes the precision policy. It does change the state of the
    module `random`, so the seeds of the run are set after it.

    Args:
        recipe: The recipe.
        train: The training split. TensorFlow copies it if it is in memory.
        num_classes: Number of classes K.
        feature_bytes: Size of the features of a teacher. 0: there is no teacher.
    """
    if tf.config.list_physical_devices("GPU"):
        return
    precision = choose_precision(recipe.runtime)

    def parts() -> dict[str, float]:
        keras.config.set_dtype_policy(precision)
        network = build_network(recipe.model, train.image_shape, num_classes)
        activations = recipe.training.batch_size * activation_bytes(network)
        features = {"features of the teacher": feature_bytes} if feature_bytes else {}
        return {
            "training images": TENSOR_COPIES * bytes_in_memory(train),
            f"weights and optimizer of {recipe.architecture}": weight_bytes(
                network, recipe.training
            ),
            f"activations of {batch_in_words(recipe)}": activations,
            **features,
        }

    needed = without_weights(parts)
    sizes = ", ".join(f"{what} ({in_words(size)})" for what, size in needed.items())
    refuse_if_too_large(sum(needed.values()), f"{recipe.name}: {sizes}", how_to_save(recipe))


def weight_bytes(network: keras.Model, config: TrainingConfig) -> int:
    """Return the bytes of the weights, gradients, optimizer slots and averages of a network.

    Args:
        network: The network, built.
        config: The recipe's `training` table.
    """
    arrays = 2 + OPTIMIZER_SLOTS.get(config.optimizer, 1)
    arrays += bool(config.ema_decay) + bool(config.lookahead_steps) + (config.keep == "best")
    return 4 * arrays * network.count_params()


def activation_bytes(network: keras.Model) -> float:
    """Return a lower bound of the bytes that a training step holds for each image of a batch.

    Args:
        network: The network, a functional one.
    """
    return ACTIVATIONS_HELD * sum(output_bytes(layer) for layer in network.layers)


@contextlib.contextmanager
def out_of_memory_in_words(recipe: Recipe, when: Callable[[], str]) -> Iterator[None]:
    """Turn a failure to allocate memory into a RunError that says what to lower.

    Args:
        recipe: The recipe.
        when: Called at the failure; returns the end of "out of memory …", such as "in step 3".
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise RunError(
            f"{recipe.name}: out of memory {when()}, with {batch_in_words(recipe)}; "
            f"{how_to_save(recipe)}, and train a new run"
        ) from error  # which the log shows


def batch_in_words(recipe: Recipe) -> str:
    """Return the size of a batch, of its images and of their tokens."""
    size, model = recipe.model.image_size, recipe.model
    tokens = f" in {model.num_tokens} tokens" if isinstance(model, TransformerConfig) else ""
    return f"a batch of {recipe.training.batch_size} images of {size}x{size} pixels{tokens}"


def how_to_save(recipe: Recipe) -> str:
    """Return the keys that save the most memory, with their values."""
    model = recipe.model
    fewer_tokens = f" or {model.fewer_tokens}" if isinstance(model, TransformerConfig) else ""
    return (
        f"lower training.batch_size ({recipe.training.batch_size}) or model.image_size "
        f"({recipe.model.image_size}){fewer_tokens}, or choose a smaller network"
    )
