"""The serving signature of an exported network."""

import keras
import tensorflow as tf


class SavedNetwork(tf.Module):
    """The signature that is served: uint8 (B, H, W, C) → probabilities (B, K), names (K,)."""

    def __init__(self, network: keras.Model, class_names: list[str]):
        super().__init__()
        self._network = network
        self._class_names = tf.constant(class_names)
        self.answer = tf.function(
            self._answer,
            input_signature=[tf.TensorSpec((None, *network.input_shape[1:]), tf.uint8, "images")],
        )

    def _answer(self, images):
        logits = self._network(images, training=False)
        return {"probabilities": tf.nn.softmax(logits), "class_names": self._class_names}
