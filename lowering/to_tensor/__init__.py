"""From the graph landing to the tensor landing."""
