"""Weights that undo a shift between the training and the target distribution.

- `density_ratio`: p_target(x) / p_train(x) from samples of both (covariate shift);
- `label_shift`: class weights from a classifier's outputs on unlabeled target data, and logits
  moved to other class priors after training;
- `propensity`: one over the probability with which an example was selected, where it is known.

The weights are arrays [N] or [C]: `schemes.per_example` and `schemes.class_based` train with them.
"""
