"""The command line: the program above all stages."""
