"""The compiler: jaxpr -> graph -> kernels (loop IR) -> LLVM IR -> object code -> program."""
