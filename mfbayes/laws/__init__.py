"""The law that P(text) falls with dH, held against what else the data could follow."""
