"""The CPU backend: targets, code generation through LLVM, the process's team of threads, the native entry."""
