"""Tollkeeper: a price, a gate and an exact meter for what you have already built."""

__version__ = "0.1.0"
