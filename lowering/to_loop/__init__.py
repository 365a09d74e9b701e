"""From the tensor landing to the loop landing."""
