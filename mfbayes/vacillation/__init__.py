"""Vacillation: how often models change their mind over their layers, and whether they do so near balance."""
