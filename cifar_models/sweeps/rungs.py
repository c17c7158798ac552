"""Rungs of successive halving: the numbers of epochs after which the worse trials are given up."""

import math

REDUCTION = 3  # of the trials from rung to rung


def rungs(trials: int, epochs: int) -> list[int]:
    """Return the epochs of each rung, ascending. The last one is the whole training.

    Each rung keeps a third of the trials, and trains three times as long, as long as there are
    trials and epochs to divide.

    Args:
        trials: Number of trials of the first rung.
        epochs: Epochs of a whole training.

    Source: Jamieson and Talwalkar (2016), arXiv:1502.07943, algorithm 1.
    """
    count = min(math.log(max(trials, 1), REDUCTION), math.log(max(epochs, 1), REDUCTION))
    halvings = math.floor(count + 1e-9)
    return [math.ceil(epochs / REDUCTION ** (halvings - rung)) for rung in range(halvings + 1)]


def survivors(trials: int) -> int:
    """Return how many of a number of trials reach the next rung."""
    return max(1, trials // REDUCTION)
