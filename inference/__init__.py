"""Asks models: answers, entropies and layer traces."""
