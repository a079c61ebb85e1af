"""Learning on pandas frames and NumPy arrays: distil, load, predict and measure without a store and without a workspace."""
