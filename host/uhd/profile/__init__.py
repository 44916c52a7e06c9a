"""What a model costs: parameters, multiply-accumulates, memory, and time on a chip, predicted or told by a board."""
