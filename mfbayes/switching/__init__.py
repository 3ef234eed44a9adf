"""Switching between the answers from layer to layer: hazards, and hidden sides behind noisy readings."""
