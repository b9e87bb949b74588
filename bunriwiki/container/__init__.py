"""What a container needs beside the service: its entry point, its health check, and the limits that it was given."""
