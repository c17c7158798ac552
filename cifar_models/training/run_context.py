"""Inputs and outputs of a run in progress."""

from dataclasses import dataclass

from cifar_models.config.recipe import Recipe
from cifar_models.data.dataset import Dataset
from cifar_models.data.splits import Split, Splits
from cifar_models.runtime.device import Runtime
from cifar_models.runtime.signals import StopRequest
from cifar_models.storage.run_folder import RunFolder
from cifar_models.storage.tensorboard_log import TensorBoardLog


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        dataset: The whole data set.
        splits: Its disjoint splits.
        evaluation_split: "test", or "validation" for a trial of a search.
    """

    dataset: Dataset
    splits: Splits
    evaluation_split: str

    @property
    def evaluated(self) -> Split:
        """The evaluation split, which is predicted once, after training."""
        return getattr(self.splits, self.evaluation_split)

    @property
    def is_of_trial(self) -> bool:
        """Whether the run is a trial of a search, which draws nothing, to be fast."""
        return self.evaluation_split == "validation"


@dataclass(frozen=True)
class RunContext:
    """Recipe, data, machine and outputs of a run in progress.

    Attributes:
        recipe: The resolved recipe.
        data: The data set and its splits.
        runtime: Settings of this process.
        folder: The run folder, which is locked.
        tensorboard: Writer of TensorBoard events.
        stop: Request by a signal to stop the run.
        pause_after: Number of epochs after which the run is paused. 0: it is trained to its end.
    """

    recipe: Recipe
    data: RunData
    runtime: Runtime
    folder: RunFolder
    tensorboard: TensorBoardLog
    stop: StopRequest
    pause_after: int = 0
