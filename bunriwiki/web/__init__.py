"""What every HTTP server of this project shares: admin tokens, bounded bodies, and errors as problem details."""
