"""Statistics: arrays in, results out; NumPy alone, no torch and no configuration."""
