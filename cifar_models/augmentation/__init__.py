"""Stateless augmentation of a batch inside the compiled train step."""
