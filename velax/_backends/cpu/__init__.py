"""The CPU back end: compiled calls and eager evaluation on the machine's cores."""
