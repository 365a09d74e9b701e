"""Stepwell and its peers, side by side."""
