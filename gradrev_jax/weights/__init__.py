"""Reads and writes parameters in the file formats of other libraries."""
