"""The Open Inference Protocol (KServe V2): what its two doors, REST and gRPC, have in common."""
