"""One file per model: bytes or text in, typed answers out. Each is a BentoML service in a process of its own."""
