builtin.module {
  func.func @main(%x: tensor<?x8xf32, #graph.shape<["batch"]>>) -> tensor<?x8xf32, #graph.shape<["batch"]>> {
    %one = graph.constant dense<1.0> : tensor<8xf32> loc("model.mlir":4:5)
    %a = graph.add %x, %one : (tensor<?x8xf32, #graph.shape<["batch"]>>, tensor<8xf32>) -> tensor<?x8xf32, #graph.shape<["batch"]>> loc("model.mlir":5:5)
    %b = graph.tanh %a : (tensor<?x8xf32, #graph.shape<["batch"]>>) -> tensor<?x8xf32, #graph.shape<["batch"]>> loc("model.mlir":6:5)
    func.return %b : tensor<?x8xf32, #graph.shape<["batch"]>> loc("model.mlir":7:5)
  } loc("model.mlir":3:3)
} loc("model.mlir":2:1)
