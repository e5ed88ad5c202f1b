"""The program forms: array graph, loop IR and program."""
