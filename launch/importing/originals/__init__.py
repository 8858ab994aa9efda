"""The networks of other programs, computed from the tensors of their files under their own names.

They are what an import is compared with: nothing here knows the networks of `models/` or how tensors are renamed.
"""
