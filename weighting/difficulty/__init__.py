"""How difficult an example is: one number per example, larger is harder.

- `one_network`: of a network's outputs and gradients (error, margin, gradient norm, depth);
- `several_networks`: of several networks, or one along its training (EL2N, GraNd, forgetting,
  variances, entropies); `bias_variance` splits their expected error;
- `history`: what a training has shown about each example so far, gathered by a scheme;
- `over_a_dataset`: runs any of these over a training set, in batches;
- `cross_validation`: the same by networks that did not see the example.

`schemes.difficulty_weights` turns a difficulty into weights.
"""
