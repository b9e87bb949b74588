"""A crowd: many connections at once to a service, hostile or honest ones, from a process of its own."""
