from __future__ import annotations


class AffineMap:
    pass
def parse_affine_map(text: str) -> AffineMap:
    raise NotImplementedError
