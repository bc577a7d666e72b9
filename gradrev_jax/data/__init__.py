"""Labelled images and what is asked of them, whatever form they come in."""
