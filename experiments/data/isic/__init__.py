"""Prepares the images of the ISIC challenges for tfds: `python -m experiments.data.isic`."""
