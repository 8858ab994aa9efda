"""Whether runs would start: what their first seconds on a cluster would refuse, found out before they are submitted."""
