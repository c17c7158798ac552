"""The fit of a network: train step, callbacks, checkpoints."""
