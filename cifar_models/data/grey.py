"""Colours as grey."""

import numpy as np

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def as_grey(images: np.ndarray) -> np.ndarray:
    """Return images with one channel: uint8 (B, H, W, 3) → uint8 (B, H, W, 1).

    Pillow's `convert("L")` has the same weights.
    """
    return np.round(images @ LUMA).astype(np.uint8)[..., np.newaxis]
