"""A network whose logits are divided by a temperature."""

import keras


def with_temperature(network: keras.Model, temperature: float) -> keras.Model:
    """Return a network with the same weights whose logits are divided by a temperature.

    Args:
        network: images (B, H, W, C) → logits (B, K).
        temperature: The temperature, above 0. If it is 1, the network itself is returned.
    """
    if temperature == 1:
        return network
    divide = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")
    return keras.Model(network.input, divide(network.output), name=network.name)
