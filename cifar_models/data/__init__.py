"""Data sets: loading, splits, and the batch of a given seed and step."""
