"""The stages of compilation: ``jit(f).trace(...)``, ``.lower(...)``, ``.compile()``."""

from velax._transforms.inspecting import (
    ArgInfo as ArgInfo,
    Compiled as Compiled,
    Lowered as Lowered,
    Traced as Traced,
    Wrapped as Wrapped,
)

CompilerOptions = dict
