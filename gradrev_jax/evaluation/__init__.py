"""Evaluates runs, in numbers and pictures."""
