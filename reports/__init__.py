"""Turns finished estimates into figures and one HTML page."""
