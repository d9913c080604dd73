"""What weights do to the direction and the margin of a classifier."""
