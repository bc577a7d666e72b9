"""Drawn garments, for tests and for the demo."""
