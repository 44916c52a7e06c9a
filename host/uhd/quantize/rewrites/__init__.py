"""Rewrites of a model that change where time goes and not one integer of what it computes."""
