"""Methods: which networks, in what order they learn, from which losses; one method per file."""
