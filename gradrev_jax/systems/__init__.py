"""Systems: what is trained, what its stages minimise, and how it edits; by name in ``registry``."""
