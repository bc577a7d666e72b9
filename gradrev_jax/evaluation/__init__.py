"""Evaluation: features, manipulation, and the report."""
