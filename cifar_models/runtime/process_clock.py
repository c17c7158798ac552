"""The start of the process, from which `process_seconds` counts."""

from time import perf_counter

PROCESS_START = perf_counter()  # almost: the package imports this module first
