"""Reads embeddings that come with a catalogue, row by row from the file that holds them."""
