"""TensorFlow without its start-up messages."""

import os
import sys
import tempfile
from pathlib import Path

from cifar_models.runtime.signals import obey_stop


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up messages, some of which no setting silences.

    If the import fails, the messages are printed.
    """
    if "tensorflow" in sys.modules:
        return
    has_gpu = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
    # Without a GPU, TensorFlow would report at every start that it found none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if has_gpu else "3")
    with tempfile.TemporaryFile() as messages:
        screen = os.dup(2)
        try:
            os.dup2(messages.fileno(), 2)
            import tensorflow  # noqa: F401
        except Exception:
            messages.seek(0)
            os.write(screen, messages.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
    obey_stop()
