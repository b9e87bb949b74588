"""The gRPC door: Open Inference over grpc.aio, in the gateway's own event loop. `open_inference_pb2*` are generated."""
