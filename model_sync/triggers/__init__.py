"""What asks for a look: the clock, messages of a queue, webhooks. None of them carries any truth."""
