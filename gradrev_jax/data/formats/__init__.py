"""The forms a catalogue comes in; each becomes a ``Catalogue``."""
