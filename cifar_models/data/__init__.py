"""From a data set's name to the batch of (seed, step)."""
