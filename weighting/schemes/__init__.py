"""Weighting schemes, a file a method or a family that shares a formula.

By what they read:

- the loss: `loss_based` (focal, self-paced, top and small losses), `superloss`,
  `gradient_harmonized`, `rho_loss` (less a reference's loss), `robust` (distributionally robust),
  `curricula` (over the steps);
- the class: `class_based`; the margin: `margin_based`;
- the gradient: `low`, `alignment` (inner products), `importance_sampling` (draws, with
  expectation one);
- a small clean set: the room `meta` (lookahead, Meta-Weight-Net);
- the input, by a model that is trained: `joint_weighting`; the loss's history, by a network that
  was trained before: `mentornet`;
- an example's past: `active_bias`, `loss_rank`, `infobatch`;
- nothing but the position in the training set: `per_example` (fixed weights), for which
  `difficulty_weights` and `adaboost` make some; or nothing at all: `random_weights`.

`parts` holds what to chain behind a scheme: normalize, clip, temper, mix, smooth, schedule.
"""
