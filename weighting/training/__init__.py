"""Ways of training that need more than a weight per example."""
