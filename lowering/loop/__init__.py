"""Inside the loop landing: tiling, attaching, vectorising."""
