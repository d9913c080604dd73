"""The two models of the simulations, and their figures."""
