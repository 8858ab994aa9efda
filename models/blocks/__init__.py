"""Building blocks that several networks share, or that one network is too long to hold."""
