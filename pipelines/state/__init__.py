"""What a method keeps beside its networks."""
