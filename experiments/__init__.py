"""The laboratory: data, networks, the training driver, and the papers' experiments."""
