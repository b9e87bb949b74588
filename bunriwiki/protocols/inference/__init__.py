"""The Open Inference Protocol (KServe V2): what its REST and its gRPC form share."""
