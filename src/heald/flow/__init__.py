"""What users write with: task decorators, sessions, map."""
