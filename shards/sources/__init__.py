"""The sources of `python -m shards.build SOURCE`, one per file.

Each has `add_arguments(parser)` and `build(args)`, which returns the index header of every split it wrote. Its module
docstring is what --help shows.
"""
