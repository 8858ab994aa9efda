"""Checks that this machine's device trains as the documentation says, for `python -m launch.prove_device`."""
