"""A trained run in use: garments edited and found by words, clicks and photographs."""
