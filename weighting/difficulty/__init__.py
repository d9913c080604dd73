"""How difficult an example is: for one network, for several, along a training."""
