"""Short names of the dtypes in the IRs. A file of its own: what only names dtypes does not load the grammars."""

__all__ = ["DTYPES", "FLOATS", "SIGNED", "UNSIGNED", "WIDTH"]

SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
FLOATS = ("f16", "bf16", "f32", "f64", "f8e4m3fn", "f8e5m2")
DTYPES = ("bool", *SIGNED, *UNSIGNED, *FLOATS)
#: bits of each dtype; a ``bool`` is stored as one byte, 0 or 1
WIDTH = {"bool": 8, "i8": 8, "u8": 8, "i16": 16, "u16": 16, "i32": 32, "u32": 32, "i64": 64, "u64": 64,
         "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "f8e4m3fn": 8, "f8e5m2": 8}  # fmt: skip
