"""Input and classifier, which all networks share."""

import keras
from keras import layers


def image_input(
    image_shape: tuple[int, int, int], image_size: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the input of a network, and the same images scaled and resized.

    Both are part of the network, so that an exported network takes raw images.

    Args:
        image_shape: Shape (H, W, C) of the images of the data set.
        image_size: Side S of the images inside the network, in pixels.

    Returns:
        The input, uint8 (B, H, W, C), values 0 to 255.
        The scaled images, float32 (B, S, S, C), values -1 to 1.
    """
    images = keras.Input(image_shape, dtype="uint8", name="images")
    # Convert to float32 first: outside a tf.function, Keras' Resizing rounds integer images.
    x = layers.Rescaling(1 / 127.5, offset=-1, dtype="float32", name="scale")(images)
    if image_shape[:2] != (image_size, image_size):
        x = layers.Resizing(image_size, image_size, dtype="float32", name="resize")(x)
    return images, x


def classifier(
    x: keras.KerasTensor, num_classes: int, dropout_rate: float = 0.0, **kwargs
) -> keras.KerasTensor:
    """Apply dropout and a dense layer: (B, D) → logits (B, K).

    Args:
        x: Features (B, D).
        num_classes: Number of classes K.
        dropout_rate: Dropout of the features, in [0, 1).
        **kwargs: Options of the dense layer.

    Returns:
        Logits (B, K), float32 under every precision policy.
    """
    if dropout_rate:
        x = layers.Dropout(dropout_rate, name="classifier_dropout")(x)
    return layers.Dense(num_classes, dtype="float32", name="classifier", **kwargs)(x)
