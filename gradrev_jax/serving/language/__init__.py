"""A shopper's words as changes of attributes."""
