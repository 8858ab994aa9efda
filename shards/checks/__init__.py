"""What can be wrong with images: a range that their values contradict, a pair that is turned or inverted."""
