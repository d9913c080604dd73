"""LOW (santiago2021): its quadratic program, first-order argument, regularizer and proxy."""
