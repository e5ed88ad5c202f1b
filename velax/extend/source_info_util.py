"""Source locations of equations."""

from velax._lang.source import (
    SourceInfo as SourceInfo,
)
from velax._lang.source import (
    current as current,
)
from velax._lang.source import (
    name_scope as extend_name_stack,
)
from velax._lang.source import (
    name_stack as current_name_stack,
)
from velax._lang.source import (
    new_source_info as new_source_info,
)
from velax._lang.source import (
    register_exclusion as register_exclusion,
)
from velax._lang.source import (
    summarize as summarize,
)

__all__ = [
    "SourceInfo",
    "current",
    "current_name_stack",
    "extend_name_stack",
    "new_source_info",
    "register_exclusion",
    "summarize",
]
