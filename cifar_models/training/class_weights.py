"""Weights of the classes in the training loss."""

from collections.abc import Mapping

import numpy as np

from cifar_models.errors import RequestError


def class_weights(
    wanted: str | Mapping[str, float], labels: np.ndarray, class_names: tuple[str, ...]
) -> np.ndarray | None:
    """Return the weight of each class, float32 (K,), or None if all weigh the same.

    Args:
        wanted: "none"; "balanced" for N / (K * images of the class), as in scikit-learn; or name
            of a class → weight. Classes that are left out have the weight 1.
        labels: Labels of the N training images, int64 (N,), 0 to K - 1.
        class_names: Names of the K classes.

    Raises:
        RequestError: There is no class of a name.
    """
    if wanted == "none":
        return None
    if wanted == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        classes = np.arange(len(class_names))
        return compute_class_weight("balanced", classes=classes, y=labels).astype(np.float32)
    assert isinstance(wanted, Mapping)
    if unknown := set(wanted) - set(class_names):
        raise RequestError(
            f"training.class_weights: no class is called {min(unknown)!r}; the classes are "
            f"{', '.join(class_names)}"
        )
    return np.array([wanted.get(name, 1.0) for name in class_names], np.float32)
