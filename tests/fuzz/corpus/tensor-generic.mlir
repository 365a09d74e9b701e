"builtin.module"() ({
  "func.func"() <{function_type = (tensor<?x8xf32, #graph.shape<["batch"]>>) -> tensor<?x8xf32, #graph.shape<["batch"]>>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x8xf32, #graph.shape<["batch"]>>):
    %b = "tensor.kernel"(%x) <{schedule = #tensor.schedule<loops = [parallel d00: d0 by 128], register = {d1: 8}, vector = d1 by 8>}> ({
    ^bb0(%x_1: tensor<?x8xf32, #graph.shape<["batch"]>>):
      %a = "tensor.generic"(%x_1) <{iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<["batch", 8]>}> ({
      ^bb1(%0: f32):
        %1 = "arith.constant"() <{value = 1.0 : f32}> : () -> f32 loc(unknown)
        %2 = "arith.addf"(%0, %1) : (f32, f32) -> f32 loc(unknown)
        "tensor.yield"(%2) : (f32) -> () loc(unknown)
      }) : (tensor<?x8xf32, #graph.shape<["batch"]>>) -> tensor<?x8xf32, #graph.shape<["batch"]>> loc("model.mlir":5:5)
      %b_1 = "tensor.generic"(%a) <{iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<["batch", 8]>}> ({
      ^bb2(%3: f32):
        %4 = "math.tanh"(%3) : (f32) -> f32 loc(unknown)
        "tensor.yield"(%4) : (f32) -> () loc(unknown)
      }) : (tensor<?x8xf32, #graph.shape<["batch"]>>) -> tensor<?x8xf32, #graph.shape<["batch"]>> loc("model.mlir":6:5)
      "tensor.yield"(%b_1) : (tensor<?x8xf32, #graph.shape<["batch"]>>) -> () loc(unknown)
    }) : (tensor<?x8xf32, #graph.shape<["batch"]>>) -> tensor<?x8xf32, #graph.shape<["batch"]>> loc(fused["model.mlir":5:5, "model.mlir":6:5])
    "func.return"(%b) : (tensor<?x8xf32, #graph.shape<["batch"]>>) -> () loc("model.mlir":7:5)
  }) : () -> () loc("model.mlir":3:3)
}) : () -> () loc("model.mlir":2:1)
