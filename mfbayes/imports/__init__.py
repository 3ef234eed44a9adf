"""Outputs that others made, read as trials: their own files in, one table out; strings are parsed, never run."""
