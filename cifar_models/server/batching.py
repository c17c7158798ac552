"""Micro-batching: images of requests that come at once are predicted together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

MAX_WAITING = 1024  # images of one model


class Overloaded(Exception):
    """More is waiting than the server accepts."""


class MicroBatcher:
    """A queue of images, which one thread predicts in batches.

    A batch begins as soon as the thread is free, with all images that wait then, so a single
    request is not delayed.

    Args:
        predict: Function from images, uint8 (B, H, W, C), to probabilities, float32 (B, K).
        max_batch: Largest number of images in a batch.
    """

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], max_batch: int):
        self._predict = predict
        self._max_batch = max_batch
        self.thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def predict(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of images, uint8 (H, W, C), float32 (K,) each.

        Raises:
            Overloaded: Too many images are waiting. None of these is predicted then.
        """
        if len(self._waiting) + len(images) > MAX_WAITING:
            raise Overloaded(f"more than {MAX_WAITING:,} images are waiting; try again later")
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self._waiting += zip(images, futures, strict=True)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return list(await asyncio.gather(*futures))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = (
                self._waiting[: self._max_batch],
                self._waiting[self._max_batch :],
            )
            futures = [future for _, future in batch]
            try:
                images = np.stack([image for image, _ in batch])
                rows = await loop.run_in_executor(self.thread, self._predict, images)
                results = list(zip(futures, rows, strict=True))
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, row in results:
                if not future.done():
                    future.set_result(row)

    def close(self) -> None:
        """End the thread, after the batch that it predicts."""
        self.thread.shutdown(cancel_futures=True)
