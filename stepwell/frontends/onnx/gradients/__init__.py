"""Gradients of parts of a graph, by reverse-mode differentiation (Griewank and Walther, "Evaluating Derivatives",
2008).

    @vjp(MulOp)
    def mul(op, g, b): return [b.mul(g, op.rhs), b.mul(g, op.lhs)]

A rule gives, for the gradient `g` of an op's result, those of its operands (None: none flows there). The graph that
comes out is an ordinary one: its ops follow those that they differentiate."""

from __future__ import annotations

import importlib
import pkgutil

from stepwell.frontends.onnx.gradients.rules import RULES as RULES
from stepwell.frontends.onnx.gradients.rules import vjp as vjp

for _info in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_info.name}")
