"""How a batch gets to the process that answers it: frames of typed data over a private Unix socket. Knows no model."""
