builtin.module {
  func.func private @k_model_mlir_6_5(%x: memref<?x8xf32>, %0: memref<?x8xf32>, %batch: index) attributes {kernel} {
    %1 = arith.constant 0 : index
    %2 = arith.constant 128 : index
    %3 = arith.constant 1 : index
    %4 = arith.constant dense<20.0> : vector<8xf32>
    %5 = arith.constant dense<12583039.0> : vector<8xf32>
    %6 = arith.constant dense<1.442695> : vector<8xf32>
    %7 = arith.constant dense<23> : vector<8xi32>
    %8 = arith.constant dense<-0.69314575> : vector<8xf32>
    %9 = arith.constant dense<-1.4286068e-06> : vector<8xf32>
    %10 = arith.constant dense<0.0001973513> : vector<8xf32>
    %11 = arith.constant dense<0.0013933398> : vector<8xf32>
    %12 = arith.constant dense<0.008333579> : vector<8xf32>
    %13 = arith.constant dense<0.041666485> : vector<8xf32>
    %14 = arith.constant dense<0.16666666> : vector<8xf32>
    %15 = arith.constant dense<0.5> : vector<8xf32>
    %16 = arith.constant dense<1.0> : vector<8xf32>
    %17 = arith.constant dense<2.0> : vector<8xf32>
    %18 = arith.constant 1.0 : f32
    %19 = vector.broadcast %18 : f32 to vector<8xf32>
    loop.parallel %d00 = %1 to %batch step %2 attributes {label = "d00"} {
      %20 = arith.subi %batch, %d00 : index
      %21 = arith.minsi %2, %20 : index
      %22 = arith.addi %d00, %21 : index
      loop.for %d0 = %d00 to %22 step %3 attributes {label = "d0"} {
        %23 = vector.load %x[%d0, %1] : memref<?x8xf32>, vector<8xf32>
        %24 = arith.addf %23, %19 : vector<8xf32>
        %25 = math.absf %24 : vector<8xf32>
        %26 = arith.addf %25, %25 : vector<8xf32>
        %27 = arith.cmpf ogt, %26, %4 : vector<8xf32>
        %28 = arith.select %27, %4, %26 : vector<8xf32>
        %29 = vector.fma %28, %6, %5 : vector<8xf32>
        %30 = arith.subf %29, %5 : vector<8xf32>
        %31 = arith.bitcast %29 : vector<8xf32> to vector<8xi32>
        %32 = arith.shli %31, %7 : vector<8xi32>
        %33 = arith.bitcast %32 : vector<8xi32> to vector<8xf32>
        %34 = vector.fma %30, %8, %28 : vector<8xf32>
        %35 = vector.fma %30, %9, %34 : vector<8xf32>
        %36 = arith.mulf %35, %35 : vector<8xf32>
        %37 = vector.fma %10, %35, %11 : vector<8xf32>
        %38 = vector.fma %37, %35, %12 : vector<8xf32>
        %39 = vector.fma %38, %35, %13 : vector<8xf32>
        %40 = vector.fma %39, %35, %14 : vector<8xf32>
        %41 = vector.fma %40, %35, %15 : vector<8xf32>
        %42 = vector.fma %36, %41, %35 : vector<8xf32>
        %43 = arith.subf %33, %16 : vector<8xf32>
        %44 = vector.fma %33, %42, %43 : vector<8xf32>
        %45 = arith.addf %44, %17 : vector<8xf32>
        %46 = arith.divf %44, %45 : vector<8xf32>
        %47 = math.copysign %46, %24 : vector<8xf32>
        vector.store %47, %0[%d0, %1] : memref<?x8xf32>, vector<8xf32>
        loop.yield
      }
      loop.yield
    }
    func.return
  }
  func.func @main(%x: memref<?x8xf32> {sw.tensor = "tensor<?x8xf32, #graph.shape<[\"batch\"]>>"}, %out0: memref<?x8xf32> {sw.out, sw.tensor = "tensor<?x8xf32, #graph.shape<[\"batch\"]>>"}, %arena: memref<?xi8> {sw.arena}) attributes {sw.arena = "0"} {
    %batch = buffer.dim %x {axis = 0} : memref<?x8xf32>
    kernel.launch @k_model_mlir_6_5(%x, %out0, %batch) : (memref<?x8xf32>, memref<?x8xf32>, index) -> ()
    func.return
  }
}
