"""Recipes, and the identity of a run. Nothing here imports TensorFlow."""
