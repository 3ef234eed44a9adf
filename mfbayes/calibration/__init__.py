"""Calibration: whether intervals cover what is true as often as they say.

`python -m mfbayes.calibration` measures the coverage of 95 % intervals over a grid of studies, with
parameters drawn from their priors, and the ranks of true values among draws (simulation-based
calibration) of the sampled tier. Finished studies are kept in a file of lines and not done again.

References
----------
Talts et al., "Validating Bayesian Inference Algorithms with Simulation-Based Calibration",
arXiv:1804.06788.
"""
