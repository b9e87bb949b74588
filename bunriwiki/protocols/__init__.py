"""The protocols that the service speaks: REST, Open Inference over REST and gRPC, all over one set of `handlers`."""
