"""Several runs side by side: results, table, plot."""
