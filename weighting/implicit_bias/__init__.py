"""What weights do to the direction and the margin of a classifier.

On separable data gradient descent ends at the direction of maximal margin whatever the weights:

- `diagnostics`: how far on its way a run is (angles, margins, norms, homogeneity, the dual);
- `long_horizon` and `flow`: gradient descent and gradient flow to times that underflow the loss;
- `max_margin`, `multiclass_margin`: the limit, with a certificate;
- `separable_part`: what is separable in data that is not, and where the rest ends;
- `sensitivity`: whether, under a budget, two weightings of one data set end apart;
- `bounds`: margin bounds on the error, with their divergences and complexities.
"""
