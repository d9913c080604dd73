"""Separable points, weights of them, and their direction of maximal margin by brute force."""

import math

import numpy as np


def separable(seed=0, num_examples=40):
    """Points z = y x in the unit disc, within 1.1 radians of one direction."""
    rng = np.random.default_rng(seed)
    angles, radii = rng.uniform(-0.5, 1.7, num_examples), rng.uniform(0.5, 1.0, num_examples)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def brute_force_direction(points):
    """The unit vector of largest margin in the plane, by a grid of angles and thirds."""

    def margin(angle):
        return (points @ np.array([np.cos(angle), np.sin(angle)])).min()

    grid = np.linspace(-math.pi, math.pi, 10_001)
    best = grid[np.argmax([margin(angle) for angle in grid])]
    low, high = best - 1e-3, best + 1e-3
    for _ in range(100):  # the margin is unimodal where it is positive
        third = (high - low) / 3
        if margin(low + third) < margin(high - third):
            low += third
        else:
            high -= third
    return np.array([np.cos(low), np.sin(low)]), margin(low)


POINTS = separable()


STAR, MARGIN = brute_force_direction(POINTS)


WEIGHTS = np.random.default_rng(9).uniform(0.2, 1.8, size=len(POINTS))


def support(points, direction, margin):
    return np.flatnonzero(points @ direction < margin * (1 + 1e-6))
