"""The stages of compilation: ``jit(f).trace(...)``, ``.lower(...)``, ``.compile()``."""

from velax._transforms.inspecting import (
    ArgInfo as ArgInfo,
)
from velax._transforms.inspecting import (
    Compiled as Compiled,
)
from velax._transforms.inspecting import (
    Lowered as Lowered,
)
from velax._transforms.inspecting import (
    Traced as Traced,
)
from velax._transforms.inspecting import (
    Wrapped as Wrapped,
)

CompilerOptions = dict
