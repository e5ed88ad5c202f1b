"""The cache of compiled programs on disk, under the name that JAX gives it."""
