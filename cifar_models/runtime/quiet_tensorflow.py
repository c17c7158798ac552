"""TensorFlow without its start-up messages."""

import os
import sys
import tempfile
from pathlib import Path

from cifar_models.runtime.signals import obey_stop


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up messages, some of which no setting silences.

    Keras gets its own default settings. The user's file keras.json, or a variable of the
    environment, may have others, with which the same recipe would give other results.

    If the import fails, the messages are printed.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ["KERAS_BACKEND"] = "tensorflow"
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    # Without a GPU, TensorFlow would report at every start that it found none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if has_gpu else "3")
    with tempfile.TemporaryFile() as messages:
        screen = os.dup(2)
        try:
            os.dup2(messages.fileno(), 2)
            import keras
            import tensorflow  # noqa: F401
        except Exception:
            messages.seek(0)
            os.write(screen, messages.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    obey_stop()
