"""The serving signature of an exported network."""

import keras
import tensorflow as tf


class SavedNetwork(tf.Module):
    """A network with its serving signature: raw images → probabilities and class names.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        class_names: Names of the K classes.
    """

    def __init__(self, network: keras.Model, class_names: list[str]):
        super().__init__()
        self._network = network
        # As bytes: a folder that is named in Latin-1 has a name that is not valid UTF-8.
        self._class_names = tf.constant([n.encode(errors="surrogateescape") for n in class_names])
        self.predict = tf.function(
            self._predict,
            input_signature=[tf.TensorSpec((None, *network.input_shape[1:]), tf.uint8, "images")],
        )

    def _predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return probabilities, float (B, K), and class names, string (K,)."""
        logits = self._network(images, training=False)
        return {"probabilities": tf.nn.softmax(logits), "class_names": self._class_names}
