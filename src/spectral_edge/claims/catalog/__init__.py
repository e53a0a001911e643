"""One claim a file; each names itself `CLAIM`."""
