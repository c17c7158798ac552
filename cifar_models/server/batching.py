"""Micro-batching: what waits of several requests at once is done together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Generic, TypeVar

MAX_WAITING = 1024  # items, such as images, of one queue

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(Exception):
    """More is waiting than the server accepts."""


class MicroBatcher(Generic[Item, Result]):
    """A queue of items of several requests, which threads take in batches.

    A batch begins as soon as a thread is free, with all items that wait then, so a single request
    is not delayed. Handing over each item by itself would take longer than to read a small image.

    Args:
        work: Function from some items to their results, in the same order.
        max_batch: Largest number of items in a batch.
        executor: Gives the threads.
        num_threads: Number of threads that are used at once.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        max_batch: int,
        executor: Executor,
        num_threads: int = 1,
    ):
        self._work = work
        self._max_batch = max_batch
        self._executor = executor
        self._free = num_threads
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()

    async def results_of(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of the items, in their order.

        Raises:
            Overloaded: Too many items are waiting. None of these is begun then.
            Exception: What the function raises for the batch of an item.
        """
        if len(self._waiting) + len(items) > MAX_WAITING:
            raise Overloaded(f"more than {MAX_WAITING:,} images are waiting; try again later")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        self._begin_batches()
        return list(await asyncio.gather(*futures))

    def _begin_batches(self) -> None:
        while self._free and self._waiting:
            items: list[Item] = []
            futures: list[asyncio.Future[Result]] = []
            while self._waiting and len(items) < self._max_batch:
                item, future = self._waiting.popleft()
                if not future.done():  # as it is if the server is stopping
                    items.append(item)
                    futures.append(future)
            if items:
                self._free -= 1
                loop = asyncio.get_running_loop()
                batch = loop.run_in_executor(self._executor, self._work, items)
                batch.add_done_callback(partial(self._end_batch, futures))

    def _end_batch(
        self, futures: list[asyncio.Future[Result]], batch: asyncio.Future[Sequence[Result]]
    ) -> None:
        self._free += 1
        try:
            self._begin_batches()
            results = list(zip(futures, batch.result(), strict=True))
        except (Exception, asyncio.CancelledError) as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in results:
            if not future.done():
                future.set_result(result)
