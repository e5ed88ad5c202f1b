"""Format strings of `velax.debug.print`, looked at before there are values."""

from __future__ import annotations

import re
import string

__all__ = ["check", "has_placeholders"]


def check(fmt: str, args: tuple, kwargs: dict) -> None:
    """Raise where ``fmt`` does not fit the arguments or leaves one of them out."""
    _FormatChecker().format(fmt, *args, **kwargs)


def has_placeholders(fmt: str) -> bool:
    return any(field is not None for _, field, _, _ in string.Formatter().parse(fmt))


class _FormatChecker(string.Formatter):
    """Checks that a format string uses its arguments, without formatting them."""

    def get_field(self, field_name, args, kwargs):
        first = re.match(r"[^.\[]*", field_name).group()
        key = int(first) if first.isdigit() else first
        return self.get_value(key, args, kwargs), key

    def convert_field(self, value, conversion):
        return value

    def format_field(self, value, format_spec):
        return ""

    def check_unused_args(self, used_args, args, kwargs):
        unused = [x for i, x in enumerate(args) if i not in used_args]
        if unused:
            raise ValueError(f"Unused positional arguments to `jax.debug.print`: {unused}")
        unused = [k for k in kwargs if k not in used_args]
        if unused:
            raise ValueError(
                f"Unused keyword arguments to `jax.debug.print`: {unused}. "
                'You may be passing an f-string (i.e, `f"{x}"`) into `jax.debug.print` '
                "and instead should pass in a regular string."
            )
