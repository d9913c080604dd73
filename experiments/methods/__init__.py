"""What can be trained with: weighting schemes, losses, samplers and procedures by name."""
