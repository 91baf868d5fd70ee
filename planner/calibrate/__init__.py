"""Short measured runs, outputs of benchmark tools, and the coefficients fitted to them."""
