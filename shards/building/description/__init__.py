"""What a build says about its result: the data card, a preview, and a report for programs."""
