"""Whether what runs is traced for an export, which networks and methods below `launch/` have to know."""
