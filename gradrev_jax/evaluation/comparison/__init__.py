"""From several evaluated runs to one comparison."""
