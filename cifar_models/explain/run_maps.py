"""What speaks for a class of images, according to the network of a run."""

import numpy as np

from cifar_models.config.recipe import RuntimeConfig
from cifar_models.evaluation.image_predictions import refuse_other_shapes
from cifar_models.explain.map_figure import overlaid
from cifar_models.explain.saliency import enlarged_map, fitting_method
from cifar_models.models.test_time_augmentation import without_test_time_augmentation
from cifar_models.run.load import FinishedRun
from cifar_models.runtime.device import configure


def maps_of_run(run: FinishedRun, images: np.ndarray, classes: np.ndarray) -> list[np.ndarray]:
    """Return grey copies of images under maps of what speaks for a class.

    The network computes in float32, so that the runs of different recipes can be shown together.

    Args:
        run: The finished run.
        images: Images, uint8 (B, H, W, C).
        classes: Class of each image, int64 (B,).

    Returns:
        B pictures, uint8 (H, W, 3).

    Raises:
        RequestError: The model file is missing or damaged, or the images are not square.
    """
    refuse_other_shapes(run.dataset.image_shape)
    configure(RuntimeConfig(precision="float32"))
    network = without_test_time_augmentation(run.load_network())
    maps = fitting_method(network)(images, classes)
    side = images.shape[1]
    return [
        overlaid(image, enlarged_map(values, side))
        for image, values in zip(images, maps, strict=True)
    ]
