"""The gRPC server: Open Inference over grpc.aio, in the gateway's event loop. `open_inference_pb2*` are generated."""
