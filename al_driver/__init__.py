"""Grow machine-learning force fields by active learning: train, explore, query, label."""

__version__ = "0.1.0"
