"""Published weights on this machine: where they lie, what is in them, how a model is filled with them."""
