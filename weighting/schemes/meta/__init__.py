"""Schemes that learn from a small clean set through its gradient.

- `lookahead`: each example's effect on the clean loss, by one product with the Jacobian;
- `lookahead_unrolled`: the same through several virtual steps of any optimizer;
- `meta_weight_net`: a network of the loss (and the class: `cmw_net`) that these effects train.
"""
