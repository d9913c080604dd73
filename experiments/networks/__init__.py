"""Networks, and what makes them trainable by the driver."""
