"""The start of the process, from which `process_seconds` counts."""

from time import perf_counter

BEGAN = perf_counter()  # the package imports this module first
