"""The CPU kernels of oneDNN, which TensorFlow uses or not from its import on.

Without a setting, TensorFlow uses them on processors with AVX-512 VNNI, AVX-512 BF16 or AMX only.
"""

import logging
import os
import sys

# TensorFlow reads it when it is imported.
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

logger = logging.getLogger("cifar_models")


def choose_onednn(setting: str) -> None:
    """Choose the kernels, unless TensorFlow is imported or the user's environment has chosen.

    Args:
        setting: "on", "off", or "auto" for TensorFlow's own choice.
    """
    if setting != "auto" and "tensorflow" not in sys.modules:
        os.environ.setdefault(VARIABLE, str(int(setting == "on")))


def onednn_is_on() -> bool:
    """Return whether TensorFlow uses the kernels. It must be imported."""
    from tensorflow.python.util import _pywrap_util_port  # not in the public API

    return bool(_pywrap_util_port.IsMklEnabled())


def warn_of_ineffective_setting(setting: str) -> None:
    """Log a line if a recipe asks for other kernels than this process uses.

    Args:
        setting: As for `choose_onednn`.
    """
    is_on = onednn_is_on()
    was_chosen = is_on or VARIABLE in os.environ  # some builds of TensorFlow lack the kernels
    if setting == ("off" if is_on else "on") and was_chosen:
        logger.warning(
            'runtime.onednn = "%s" has no effect: %s=%s in the environment, or an earlier run of '
            "this process, has switched oneDNN %s",
            setting,
            VARIABLE,
            os.environ.get(VARIABLE, "unset"),
            "on" if is_on else "off",
        )
