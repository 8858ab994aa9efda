"""Clusters: stages become dependent jobs."""
