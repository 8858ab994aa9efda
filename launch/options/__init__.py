"""What options of commands and of the Python API may be: values, and checks for programs, which no parser has seen."""
