"""How the ways of making a picture smaller differ, and what that costs a model."""
