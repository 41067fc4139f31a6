"""The command line: one file a noun; parses and prints, calls what users call."""
