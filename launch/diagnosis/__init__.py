"""From a run folder to its diagnosis: facts measured, checked against every rule, disputes decided."""
