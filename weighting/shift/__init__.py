"""Weights that undo a shift between the training and the target distribution."""
