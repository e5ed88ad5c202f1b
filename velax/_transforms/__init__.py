"""Transformations: the interpreters behind jit, grad, vmap and their kin."""
