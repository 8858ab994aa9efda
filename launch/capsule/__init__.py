"""What repeats a run: code, packages, machine, data and command, recorded at every start."""
