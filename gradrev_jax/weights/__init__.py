"""Parameters in and out of the files of other libraries."""
