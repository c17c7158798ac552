"""The validation accuracy of a run at a pause and at its end."""

from collections.abc import Sequence

from cifar_models.storage.run_folder import RunFolder


def accuracy_after(folder: RunFolder, epochs: int) -> float:
    """Return the validation accuracy of a run after some epochs: of the best, if it is kept."""
    return _kept_accuracy(folder, folder.read_history()[:epochs])


def accuracy_at_end(folder: RunFolder) -> float:
    """Return the validation accuracy of a finished run: of the best epoch, if it is kept."""
    return _kept_accuracy(folder, folder.read_history())


def _kept_accuracy(folder: RunFolder, rows: Sequence[dict[str, float]]) -> float:
    accuracies = [row["validation_accuracy"] for row in rows]
    return max(accuracies) if folder.read_recipe().training.keep == "best" else accuracies[-1]
