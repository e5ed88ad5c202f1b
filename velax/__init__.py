"""Velax: composable transformations of Python+NumPy programs, with its own compiler and runtime."""
