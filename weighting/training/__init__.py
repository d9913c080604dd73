"""Ways of training that need more than a weight per example.

- `sampling`: which examples to draw, the counterpart of weighting;
- `selective_step`: scores a large batch by a forward pass and trains on a part of it;
- `co_teaching`: two networks choose each other's examples;
- `noise_layer`: a transition matrix trained with the network, for wrong labels;
- `scale_out`: any train step on several devices.
"""
