"""`velax.interpreters`: the rule tables and tools of the transformations, for libraries that define primitives."""
