"""Explanations of trained networks: attention maps, rollout and position embeddings."""
