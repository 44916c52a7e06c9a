"""Time and memory of a quantized model on a chip, before anything is flashed. Every figure here is predicted."""
