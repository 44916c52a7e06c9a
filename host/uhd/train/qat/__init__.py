"""Training on the integer grid of the chip. ``settings`` is free of torch; ``prepare`` and ``model`` are not."""
