"""The configuration as JSON schema, for editors and other programs, and as pages of the documentation."""
