"""The records of `benchmark` in a run folder, as dataclasses."""

import dataclasses
from typing import Annotated

from msgspec import Meta

from cifar_models.storage.field_types import Count, Positive, Score, ShortText


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """Percentiles of the duration of one call, milliseconds."""

    p50: Positive
    p95: Positive
    p99: Positive | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingCost:
    """`cost.json`: the serving cost of a finished run, as `benchmark` measures it."""

    latency_ms: dict[str, Latency]  # batch size → latency, pixels to probabilities
    images_per_second: Positive  # at the largest batch size
    memory_of: ShortText  # measured memory: "gpu" if there is one, otherwise "process"
    peak_memory_bytes: Count
    memory_before_bytes: Count  # the same peak before the model was built
    model_bytes: Count  # size of model.keras
    device: ShortText
    precision: ShortText  # Keras dtype policy


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeCost:
    """The cost of a finished run in one runtime."""

    latency_ms: dict[str, Latency]  # batch size → latency, pixels to probabilities
    images_per_second: Positive  # at the largest batch size, median
    startup_seconds: Positive  # from the import of this package to the first prediction
    peak_memory_bytes: Count  # of the process
    memory_before_bytes: Count  # the same peak before the model was loaded
    model_bytes: Count  # size of the model's files
    device: ShortText
    precision: ShortText
    accuracy: Score | None  # on the test split; None if the data cannot be loaded


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeCosts:
    """`runtimes.json`: the cost of a finished run in several runtimes."""

    runtimes: Annotated[dict[ShortText, RuntimeCost], Meta(min_length=1, max_length=100)]
