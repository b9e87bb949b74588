"""Live quality: drift of inputs and answers against a reference, and feedback on answers (docs/quality.md)."""
