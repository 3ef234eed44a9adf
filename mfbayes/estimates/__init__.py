"""Finished numbers of a fit: each a function to one labelled Dataset."""
