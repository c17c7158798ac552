"""A finished run: its recipe, its records, its data and its network."""

import dataclasses
import shlex
import warnings
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_models.config.paths import as_argument
from cifar_models.config.recipe import Recipe
from cifar_models.config.recipe_file import with_values
from cifar_models.data.dataset import Dataset, changes_since
from cifar_models.data.load import load_dataset_of_run
from cifar_models.data.splits import Splits
from cifar_models.errors import RequestError
from cifar_models.run.configure import configure_for_run
from cifar_models.runtime.device import Runtime
from cifar_models.runtime.onednn import choose_onednn
from cifar_models.runtime.quiet_tensorflow import import_tensorflow
from cifar_models.storage.cost_records import RuntimeCosts, ServingCost
from cifar_models.storage.open_run import open_finished_run
from cifar_models.storage.records import DatasetInfo, Environment, Robustness, RunMetrics
from cifar_models.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import keras
    import numpy as np

    from cifar_models.evaluation.image_predictions import ImageClassifier, ImagePrediction


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A finished run, whose files are read when they are first used.

    Attributes:
        folder: The run folder.
        recipe: The resolved recipe.
    """

    folder: RunFolder
    recipe: Recipe

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def metrics(self) -> RunMetrics:
        return self.folder.read(RunMetrics)

    @cached_property
    def dataset(self) -> DatasetInfo:
        return self.folder.read(DatasetInfo)

    @property
    def class_names(self) -> list[str]:
        return self.dataset.class_names

    @cached_property
    def environment(self) -> Environment:
        return self.folder.read(Environment)

    @cached_property
    def cost(self) -> ServingCost | None:
        """The serving cost that `benchmark` measured, or None if it was not measured."""
        return self.folder.read_if_there(ServingCost)

    @cached_property
    def runtimes(self) -> RuntimeCosts | None:
        """The costs in several runtimes, or None if `benchmark` did not measure them."""
        return self.folder.read_if_there(RuntimeCosts)

    @cached_property
    def robustness(self) -> Robustness | None:
        """The metrics of `evaluate --corruptions`, or None if they were not measured."""
        return self.folder.read_if_there(Robustness)

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """The rows of history.csv, one for each epoch."""
        return self.folder.read_history()

    @property
    def labels(self) -> "np.ndarray":
        """Labels of the evaluation split, int64 (N,)."""
        return self._predictions[0]

    @property
    def probabilities(self) -> "np.ndarray":
        """Predicted probabilities of the evaluation split, float32 (N, K)."""
        return self._predictions[1]

    @cached_property
    def _predictions(self) -> "tuple[np.ndarray, np.ndarray]":
        return self.folder.read_predictions()

    def load_dataset(self, name: str | None = None, data_dir: str | None = None) -> Dataset:
        """Load the run's own data set, or another one with the same classes and image shape.

        Args:
            name: Name of the data set. None: the run's own.
            data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.

        Raises:
            RequestError: The data set has other classes or images of another shape.
            RunError: The data cannot be loaded.
        """
        dataset = load_dataset_of_run(self.recipe, data_dir, name)
        for what, found, trained_on in (
            ("classes", list(dataset.class_names), self.dataset.class_names),
            ("image shape", list(dataset.test.image_shape), list(self.dataset.image_shape)),
        ):
            if found != trained_on:
                raise RequestError(
                    f"{self.path}: was trained on {what} {trained_on}; {dataset.name} has {found}"
                )
        return dataset

    def load_measured_data(self, data_dir: str | None = None) -> tuple[Dataset, Splits]:
        """Load the run's own data set and its splits, which must be those of training.

        Args:
            data_dir: Folder in which TensorFlow Datasets keeps its data. None: as in the recipe.

        Raises:
            RequestError: The data have changed.
            RunError: The data cannot be loaded.
        """
        dataset = self.load_dataset(data_dir=data_dir)
        splits = dataset.splits(self.recipe.data, self.recipe.runtime.seed)
        if changes := changes_since(self.dataset, dataset, splits):
            command = shlex.join(["evaluate", as_argument(self.path), "--dataset", dataset.name])
            raise RequestError(
                f"{self.path}: its data have changed since training: {'; '.join(changes)}; restore "
                "them, or measure the changed data, which writes nothing: python -m cifar_models "
                f"{command}"
            )
        return dataset, splits

    @property
    def classifier(self) -> "ImageClassifier":
        """The network with what it takes to classify image files."""
        network = self.network
        from cifar_models.evaluation.image_predictions import ImageClassifier
        from cifar_models.evaluation.predictions import batch_size_for, probabilities_of

        return ImageClassifier(
            image_shape=self.dataset.image_shape,
            class_names=tuple(self.dataset.class_names),
            resize=self.recipe.data.resize,
            probabilities=partial(probabilities_of, network),
            batch_size_for=partial(batch_size_for, network),
        )

    def predict(self, inputs: "Sequence[str | Path]") -> "Iterator[ImagePrediction]":
        """Yield the predictions for image files and for those in folders, in order."""
        from cifar_models.data.image_paths import find_image_files

        paths = find_image_files(inputs)  # an error comes before the network is built
        return self.classifier.predict(paths)

    def configure(self, **runtime: object) -> Runtime:
        """Configure this process like the one that trained the run, and return its settings.

        Args:
            **runtime: Keys of the recipe's `runtime` table to override.
        """
        values = {f"runtime.{key}": value for key, value in runtime.items()}
        return configure_for_run(self.folder, with_values(self.recipe, values))

    @cached_property
    def network(self) -> "keras.Model":
        """The network, uint8 images (B, H, W, C) → logits (B, K), in the precision of training.

        It includes test-time augmentation. On the machine that trained the run, it gives the
        recorded predictions to the last bit.
        """
        import_tensorflow()
        runtime = self.configure()
        network = self.load_network()
        network.jit_compile = runtime.xla
        return network

    def check_network(self) -> None:
        """Raise RequestError if the model file is missing, damaged, or does not fit the recipe.

        No memory is taken for weights, so an untrusted file cannot exhaust it.
        """
        import_tensorflow()
        from cifar_models.models.catalog import without_weights
        from cifar_models.storage.model_file import check_model_file

        path = self.folder.model_path
        without_weights(lambda: check_model_file(path, self._build_network()))

    def _build_network(self) -> "keras.Model":
        from cifar_models.models.catalog import build_network

        info = self.dataset
        return build_network(self.recipe.model, info.image_shape, len(info.class_names))

    def load_network(self) -> "keras.Model":
        """Build the network in the current dtype policy, and load the saved weights.

        Only numbers are read from the model file, so an untrusted one cannot run code.

        Raises:
            RequestError: The model file is missing, damaged, or does not fit the recipe.
        """
        self.check_network()
        import numpy as np

        from cifar_models.models.test_time_augmentation import with_test_time_augmentation

        path, network = self.folder.model_path, self._build_network()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the error below says the same
                network.load_weights(path)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise RequestError(
                f"{path}: does not fit {self.folder.recipe_path}: {reason}"
            ) from None
        if not all(np.isfinite(weight).all() for weight in network.get_weights()):
            raise RequestError(f"{path}: holds a weight that is not finite; train the run again")
        return with_test_time_augmentation(network, self.recipe.augmentation.tta_views)


def load_run(path: Path | str) -> FinishedRun:
    """Open the folder of a finished run.

    Args:
        path: Path of the run folder.

    Raises:
        RequestError: The path is not a run folder, the run is not finished, or its recipe is
            damaged.
    """
    folder = open_finished_run(Path(path))
    recipe = folder.read_recipe()
    choose_onednn(recipe.runtime.onednn)
    return FinishedRun(folder, recipe)
