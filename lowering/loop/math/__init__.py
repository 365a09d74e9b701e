"""Elementary functions written as plain arithmetic, for every target that has no vector instruction for them."""
