"""How much a kernel does, counted on fused kernels."""

from __future__ import annotations

import pytest

from stepwell.dialects.func import FuncOp
from stepwell.dialects.tensor import KernelOp
from stepwell.ir.attributes import StringAttr
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases
from stepwell.lowering.to_loop import work

N = '#graph.shape<["n"]>'
CASES = [
    ("one addition per element", "%r = graph.add %x, %x", "tensor<?x4xf32, %N%>", ["tensor<?x4xf32, %N%>"],
     "4*n", "32*n"),
    ("a maximum is one operation", "%r = graph.relu %x", "tensor<6xf32>", ["tensor<6xf32>"], "6", "48"),
    ("each operand of a product is read once", "%r = graph.matmul %x, %y", "tensor<?x8xf32, %N%>",
     ["tensor<?x4xf32, %N%>", "tensor<4x8xf32>"], "64*n", "48*n + 128*min(1, n)"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "result", "inputs", "flops", "moved"), [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_counts(line: str, result: str, inputs: list[str], flops: str, moved: str) -> None:
    result, inputs = result.replace("%N%", N), [text.replace("%N%", N) for text in inputs]
    names = ["%x", "%y"][: len(inputs)]
    arguments = ", ".join(f"{name}: {type_}" for name, type_ in zip(names, inputs, strict=True))
    operands = ", ".join(inputs * (line.count("%") - 1 if len(inputs) == 1 else 1))
    module = parse_module(f"""builtin.module {{
      func.func @main({arguments}) -> {result} {{
        {line} : ({operands}) -> {result}
        func.return %r : {result}
      }}
    }}""")
    PassManager(phases("graph", "tensor"), []).run(module, PassContext(None))
    kernels = list(module.walk_of(KernelOp))
    assert str(sum(work.flops(kernel) for kernel in kernels)) == flops
    assert str(sum(work.bytes_moved(kernel) for kernel in kernels)) == moved


def test_what_has_too_many_terms_is_left_out() -> None:
    sides = [" + ".join(f"{letter}{n}" for n in range(40)) for letter in "abc"]
    type_ = f'tensor<?x?x?xf32, #graph.shape<["{sides[0]}", "{sides[1]}", "{sides[2]}"]>>'
    module = parse_module(f"""builtin.module {{
      func.func @main(%x: {type_}) -> {type_} {{
        %r = tensor.kernel %x : ({type_}) -> {type_} {{
        ^bb0(%y: {type_}):
          tensor.yield %y : {type_}
        }}
        func.return %r : {type_}
      }}
    }}""")
    (kernel,) = module.walk_of(KernelOp)
    function = FuncOp.declare("k", [])
    work.note(function, kernel)
    assert function.attributes[work.FLOPS] == StringAttr("0") and work.BYTES not in function.attributes
