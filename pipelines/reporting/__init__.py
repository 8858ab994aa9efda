"""What a method reports about its runs: table columns, findings, and the checks of its diagnosis."""
