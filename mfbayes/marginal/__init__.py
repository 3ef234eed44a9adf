"""The marginal likelihood: group effects integrated out by the Laplace approximation."""
