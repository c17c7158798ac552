"""Types of the fields of records, with the ranges that are checked when a file is read."""

from typing import Annotated

from msgspec import Meta

MAX_COUNT = 2**63 - 1
MAX_NUMBER = 1e300  # so that sums are finite too
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
AtLeastOne = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Pixels = Annotated[int, Meta(ge=1, le=65536)]
Score = Annotated[float, Meta(ge=0, le=1 + 1e-9)]  # rounding may exceed 1
Duration = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
ShortText = Annotated[str, Meta(max_length=1000)]
FileRemark = Annotated[str, Meta(max_length=10_000)]  # "PATH: what about it"
