"""The run: from a config path to a finished run folder."""
