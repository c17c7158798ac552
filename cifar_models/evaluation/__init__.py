"""Predictions, metrics and figures of one network, its FLOPs, and image corruptions."""
