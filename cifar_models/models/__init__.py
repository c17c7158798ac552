"""Builders of networks; each reads like the figure in its paper."""
