"""Splits behind a URL: fetched, kept on the node, read through the same interface as local ones."""
