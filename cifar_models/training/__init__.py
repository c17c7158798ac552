"""Fitting a network: the train step, the optimizer, the callbacks."""
