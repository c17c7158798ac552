"""The best epoch so far, and its weights."""

import keras
import numpy as np

from cifar_models.training.progress import Progress


class BestEpoch:
    """Remembers the weights of the epoch with the highest validation accuracy, the first of equals.

    Args:
        progress: where the epoch and its accuracy are noted.
        keeps_weights: False where the last epoch's are wanted anyway.
        patience: epochs without a better one after which training is over; 0 is never.
    """

    def __init__(self, progress: Progress, keeps_weights: bool, patience: int):
        self._progress = progress
        self._keeps_weights = keeps_weights
        self._patience = patience
        self.weights: list[np.ndarray] = []

    def consider(self, epoch: int, accuracy: float, network: keras.Model) -> None:
        """Takes note of an epoch, counted from 1; the accuracy is that of the network as it is."""
        if accuracy > self._progress.best_accuracy:
            self._progress.best_epoch, self._progress.best_accuracy = epoch, accuracy
            if self._keeps_weights:
                self.weights = network.get_weights()

    def is_out_of_patience(self) -> bool:
        since = len(self._progress.rows) - self._progress.best_epoch
        return bool(self._patience) and since >= self._patience
