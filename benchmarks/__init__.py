"""Velax and JAX side by side: see `python -m benchmarks --help`."""
