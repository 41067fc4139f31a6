"""Records and decisions without I/O, clock, thread or environment: events in, actions out."""
