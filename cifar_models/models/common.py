"""What every network begins and ends with."""

import keras
from keras import layers


def image_input(
    image_shape: tuple[int, int, int], image_size: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the input, uint8 (B, H, W, C), and the same scaled to -1 … 1 and to the model's size.

    Scaling is part of the network, so what was trained is what is exported.
    """
    images = keras.Input(image_shape, dtype="uint8", name="images")
    # First to float32: Keras' Resizing of integers rounds where it is called outside a tf.function.
    x = layers.Rescaling(1 / 127.5, offset=-1, dtype="float32", name="scale")(images)
    if image_shape[:2] != (image_size, image_size):
        x = layers.Resizing(image_size, image_size, dtype="float32", name="resize")(x)
    return images, x


def classifier(x: keras.KerasTensor, num_classes: int, dropout_rate: float = 0.0, **kwargs):
    """Features (B, D) → logits (B, K), float32 under every precision policy."""
    if dropout_rate:
        x = layers.Dropout(dropout_rate, name="classifier_dropout")(x)
    return layers.Dense(num_classes, dtype="float32", name="classifier", **kwargs)(x)
