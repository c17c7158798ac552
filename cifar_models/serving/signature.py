"""The signatures of an exported network."""

import keras
import tensorflow as tf

from cifar_models.serving.encoded_images import decode_batch


class SavedNetwork(tf.Module):
    """A network with the signatures of its SavedModel.

    - "serving_default": `images`, uint8 (B, H, W, C) → `probabilities`, float32 (B, K), and
      `label`, the name of the most probable class, string (B,).
    - "image_files", if the images of the network are square: `image_bytes`, the contents of JPEG or
      PNG files, string (B,) → the same.
    - "class_names": nothing → `class_names`, string (K,).

    Every output of the first two has the batch as its first axis, which TensorFlow Serving expects.

    Args:
        network: uint8 images (B, H, W, C) → logits (B, K).
        class_names: Names of the K classes.
        resize: data.resize of the recipe, for image files.
    """

    def __init__(self, network: keras.Model, class_names: list[str], resize: str):
        super().__init__()
        # The network is not an attribute: a SavedModel would hold its weights twice, as variables
        # of Keras and of TensorFlow. Converters to LiteRT only find the latter. Without them, they
        # write files without weights, which answer NaN.
        self._variables = [variable.value for variable in network.variables]
        # As bytes: a folder that is named in Latin-1 has a name that is not valid UTF-8.
        names = tf.constant([name.encode(errors="surrogateescape") for name in class_names])
        height, width, channels = network.input_shape[1:]

        def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities = tf.nn.softmax(network(images, training=False))
            label = tf.gather(names, tf.argmax(probabilities, axis=1))
            return {"probabilities": probabilities, "label": label}

        def predict_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return predict(decode_batch(image_bytes, height, channels, resize))

        images = tf.TensorSpec((None, height, width, channels), tf.uint8, "images")
        self.predict = tf.function(predict, input_signature=[images])
        self.by_signature = {
            "serving_default": self.predict,
            "class_names": tf.function(
                lambda: {"class_names": tf.identity(names)}, input_signature=[]
            ),
        }
        if height == width:
            files = tf.TensorSpec((None,), tf.string, "image_bytes")
            self.by_signature["image_files"] = tf.function(predict_files, input_signature=[files])
