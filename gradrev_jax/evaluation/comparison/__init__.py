"""Compares several evaluated runs in one report."""
