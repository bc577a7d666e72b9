"""The formats of catalogues, each read as a ``Catalogue``."""
