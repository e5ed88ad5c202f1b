"""Names that older libraries import."""

__all__: list[str] = []
