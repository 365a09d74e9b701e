"""Passes and recipes of the loop landing: order, place, and the expansion of what hardware lacks."""
