"""The JSON API over a retriever, and the page that uses it."""
