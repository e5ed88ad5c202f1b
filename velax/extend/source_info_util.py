"""Source locations of equations."""

from velax._lang.source import (
    SourceInfo as SourceInfo,
    current as current,
    name_scope as extend_name_stack,
    name_stack as current_name_stack,
    new_source_info as new_source_info,
    register_exclusion as register_exclusion,
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
