"""Exact nearest neighbours, of plain features and of manipulated ones."""
