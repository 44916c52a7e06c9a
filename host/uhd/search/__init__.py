"""Which quantization of a model is best: every base setting, then int16 where it pays, measured on the host twin."""
