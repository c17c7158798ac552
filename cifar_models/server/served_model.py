"""A run or an export that the server has loaded."""

import asyncio
import base64
import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar_models.data.grey import as_grey
from cifar_models.data.image_file import FORMATS, decode_image
from cifar_models.evaluation.image_predictions import ImageClassifier, refuse_other_shapes
from cifar_models.run.load import FinishedRun, load_run
from cifar_models.runtime.environment import usable_cores
from cifar_models.runtime.text import printable
from cifar_models.server.batching import MicroBatcher
from cifar_models.serving.load_export import is_export, load_export

logger = logging.getLogger("cifar_models")

BATCH_SIZES = (1, 8, 16, 32, 64)  # images; a network of a run is compiled for each of them
MAX_THREADS = 4  # that read files, of which each may be a large image
MAX_FILES_OF_BATCH = 8  # that a thread reads before it can be stopped
MAP_COLOUR = (255, 106, 0)
MAP_OPACITY = 200  # of 255, where the map is highest

AnyResult = TypeVar("AnyResult")
DrawMap = Callable[[np.ndarray, int], bytes]


@dataclass(frozen=True)
class UnreadableImage:
    """A file that is no image.

    Attributes:
        problem: Why it cannot be read.
    """

    problem: str


@dataclass(frozen=True)
class Answer:
    """The prediction for one uploaded file.

    Attributes:
        probabilities: Probabilities, float32 (K,). None: the file cannot be read.
        map_png: Map of what speaks for the most probable class, a PNG file. None: there is none.
        problem: Why the file cannot be read, or "".
    """

    probabilities: np.ndarray | None
    map_png: bytes | None = None
    problem: str = ""


class ServedModel:
    """A loaded model, its queue, and the maps that explain it.

    Args:
        name: Name in addresses.
        classifier: The model.
        threads: Threads that read requests and files, of all models.
        draw_map: Function (image, class) that returns a map as a PNG file. None: there are none.

    Raises:
        RequestError: The model takes images that are not square.
    """

    def __init__(
        self,
        name: str,
        classifier: ImageClassifier,
        threads: ThreadPoolExecutor,
        draw_map: DrawMap | None = None,
    ):
        refuse_other_shapes(classifier.image_shape)
        self.name = name
        self.classifier = classifier
        self.class_names = [printable(each) for each in classifier.class_names]
        self.draw_map = draw_map
        largest = classifier.batch_size_for(BATCH_SIZES[-1])
        sizes = sorted({min(size, largest) for size in BATCH_SIZES})

        def predict(images: list[np.ndarray]) -> Sequence[np.ndarray]:
            size = next(size for size in sizes if size >= len(images))
            return list(classifier.probabilities(np.stack(images), size))

        self.predicting_thread = ThreadPoolExecutor(max_workers=1)
        self.predicting = MicroBatcher(predict, largest, self.predicting_thread)
        self.reading = MicroBatcher(self._read_files, MAX_FILES_OF_BATCH, threads, num_threads())
        self._threads = threads
        for size in sizes:  # before the first request waits for it
            predict([np.zeros(classifier.image_shape, np.uint8)] * size)

    async def answer(self, contents: Sequence[bytes], with_maps: bool) -> list[Answer]:
        """Return the predictions for the contents of image files.

        Raises:
            Overloaded: Too many images are waiting.
        """
        images = await self.reading.results_of(contents)
        readable = [image for image in images if isinstance(image, np.ndarray)]
        rows = iter(await self.predicting.results_of(readable) if readable else [])
        answers = []
        for image in images:
            if isinstance(image, np.ndarray):
                row = next(rows)
                answers.append(Answer(row, await self._map(image, row) if with_maps else None))
            else:
                answers.append(Answer(None, problem=image.problem))
        return answers

    async def _map(self, image: np.ndarray, row: np.ndarray) -> bytes | None:
        """Return the map of an image, drawn by the thread that predicts."""
        if self.draw_map is None:
            return None
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self.predicting_thread, self.draw_map, image, int(row.argmax())
            )
        except Exception:  # the prediction is good
            logger.exception("%s: a map cannot be drawn", self.name)
            return None

    async def in_thread(self, work: Callable[[], AnyResult]) -> AnyResult:
        """Do work that would keep other requests waiting in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _read_files(self, contents: list[bytes]) -> list[np.ndarray | UnreadableImage]:
        """Return image files as the model takes them, uint8 (H, W, C), or why this cannot be."""
        return [self._read_file(content) for content in contents]

    def _read_file(self, content: bytes) -> np.ndarray | UnreadableImage:
        size, _, channels = self.classifier.image_shape
        try:
            image = decode_image(io.BytesIO(content), size, self.classifier.resize).pixels
            return image if channels == 3 else as_grey(image[np.newaxis])[0]
        except UnidentifiedImageError:
            problem = f"it has none of the formats {', '.join(FORMATS)}"
        except Exception as error:  # Pillow raises many types
            problem = str(error) or type(error).__name__
        return UnreadableImage(printable(f"cannot be read: {problem}"))

    def close(self) -> None:
        """End the threads of the model, after what they are doing."""
        self.predicting_thread.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)


def num_threads() -> int:
    """Return the number of threads that read requests and files."""
    return min(usable_cores(), MAX_THREADS)


def load_models(paths: Sequence[Path]) -> dict[str, ServedModel]:
    """Load runs and exports, by the names of their folders.

    Args:
        paths: Paths of run folders and exports.

    Raises:
        RequestError: A path is neither a finished run nor an export, or a model takes images that
            are not square.
    """
    models = {}
    threads = ThreadPoolExecutor(num_threads())
    for name, path in zip(names_of(paths), paths, strict=True):
        if is_export(path):
            models[name] = ServedModel(name, load_export(path).classifier, threads)
        else:
            run = load_run(path)
            models[name] = ServedModel(name, run.classifier, threads, _map_drawer(run))
    return models


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: that of its folder, after its parents if another has it too."""
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  # no ".."
    parts = [path.parts[1:] or ("root",) for path in absolute]
    names = []
    for own in parts:
        for count in range(1, len(own) + 1):
            if sum(other[-count:] == own[-count:] for other in parts) == 1:
                break
        names.append(printable("-".join(own[-count:])))
    if len(set(names)) < len(names):  # the same folder twice
        names = [f"{name}-{number}" for number, name in enumerate(names, start=1)]
    return names


def _map_drawer(run: FinishedRun) -> DrawMap | None:
    """Return the function that draws maps, or None if the network has no feature maps."""
    from cifar_models.explain.saliency import enlarged_map, fitting_method
    from cifar_models.models.test_time_augmentation import without_test_time_augmentation

    network = without_test_time_augmentation(run.network)
    try:
        method = fitting_method(network)
    except ValueError:
        return None

    def draw(image: np.ndarray, label: int) -> bytes:
        (found,) = method(image[np.newaxis], np.array([label]))
        values = np.maximum(enlarged_map(found, image.shape[0]), 0)
        strength = values / values.max() if values.max() > 0 else values
        rgba = np.empty((*strength.shape, 4), np.uint8)
        rgba[..., :3] = MAP_COLOUR
        rgba[..., 3] = (MAP_OPACITY * strength).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(rgba).save(content, "PNG")
        return content.getvalue()

    return draw


def as_data_url(png: bytes) -> str:
    """Return a PNG file as an address that a page can show."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
