"""A run as people see it: figures folded from its history, a Gantt chart as text, a page to keep and to send."""
