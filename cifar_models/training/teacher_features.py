"""The features of a trained CNN, which the tokens of a transformer learn to predict.

A small transformer learns faster if its tokens also predict what a convolutional network sees.

Source: Li et al. (2022), arXiv:2207.10026, "locality guidance". There, the teacher runs beside the
transformer. Here, its features are computed once, so that a training step hardly takes longer.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TeacherFeatures:
    """The features of a teacher for every training image.

    Attributes:
        recipe: Name of the teacher's recipe.
        maps: Standardized feature maps of each image and of its mirror image, float16
            (N, 2, h, w, c).
        seconds: Training time of the teacher, and the time in which the features were computed.
    """

    recipe: str
    maps: np.ndarray
    seconds: float

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a feature map."""
        height, width, channels = self.maps.shape[2:]
        return height, width, channels
