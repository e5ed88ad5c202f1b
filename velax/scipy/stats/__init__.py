"""Probability distributions."""

from velax.scipy.stats import norm as norm

__all__ = ["norm"]
