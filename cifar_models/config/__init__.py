"""Recipes and what identifies a run. Nothing here imports TensorFlow."""
