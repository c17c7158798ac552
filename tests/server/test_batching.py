"""Micro-batching of what several requests ask for."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cifar_models.server import batching
from cifar_models.server.batching import MicroBatcher, Overloaded

MAX_BATCH = 4


class Squares:
    """Squares numbers in batches, which it records, once it is allowed to begin."""

    def __init__(self):
        self.batches: list[list[int]] = []
        self.may_begin = threading.Event()

    def __call__(self, numbers: list[int]) -> list[int]:
        assert self.may_begin.wait(10)
        self.batches.append(numbers)
        if -1 in numbers:
            raise ValueError("negative")
        return [number**2 for number in numbers]


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as threads:
        yield threads


async def begun(batcher: MicroBatcher, *requests: list[int]) -> list[asyncio.Task[list[int]]]:
    """Let requests wait for their results, and return them."""
    tasks = [asyncio.create_task(batcher.results_of(numbers)) for numbers in requests]
    await asyncio.sleep(0)
    return tasks


def test_what_waits_is_done_together_and_each_request_gets_its_results(executor):
    squares = Squares()

    async def ask() -> list[list[int]]:
        tasks = await begun(MicroBatcher(squares, MAX_BATCH, executor), [1], [2, 3], [4], [5, 6])
        squares.may_begin.set()
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(ask()) == [[1], [4, 9], [16], [25, 36]]
    assert squares.batches == [[1], [2, 3, 4, 5], [6]]  # the first did not wait for others


def test_several_threads_share_the_items_of_a_request(executor):
    squares = Squares()
    squares.may_begin.set()
    batcher = MicroBatcher(squares, MAX_BATCH, executor, num_threads=2)
    assert asyncio.run(batcher.results_of(range(7))) == [0, 1, 4, 9, 16, 25, 36]
    assert sorted(squares.batches) == [[0, 1, 2, 3], [4, 5, 6]]


def test_an_error_reaches_the_requests_of_its_batch_only(executor):
    squares = Squares()

    async def ask() -> list:
        tasks = await begun(MicroBatcher(squares, 2, executor), [1], [2, -1], [3])
        squares.may_begin.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first, third) == ([1], [9])
    assert isinstance(second, ValueError)


def test_items_of_a_request_that_was_cancelled_are_left_out(executor):
    squares = Squares()

    async def ask() -> list[int]:
        batcher = MicroBatcher(squares, MAX_BATCH, executor)
        _, cancelled, last = await begun(batcher, [1], [2, 3], [4])
        cancelled.cancel()
        await asyncio.sleep(0)
        squares.may_begin.set()
        return await last

    assert asyncio.run(ask()) == [16]
    assert squares.batches == [[1], [4]]


def test_more_than_may_wait_is_refused(executor, monkeypatch):
    monkeypatch.setattr(batching, "MAX_WAITING", 3)
    squares = Squares()

    async def ask() -> list[int]:
        batcher = MicroBatcher(squares, MAX_BATCH, executor)
        first, _ = await begun(batcher, [1], [2, 3])
        with pytest.raises(Overloaded):
            await batcher.results_of([4, 5])
        squares.may_begin.set()
        return await first

    assert asyncio.run(ask()) == [1]
