"""heald."""
