"""Configurations of the older program, converted to today's schema."""
