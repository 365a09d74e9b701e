"""Inside the graph landing: simplification and model-level rewrites."""
