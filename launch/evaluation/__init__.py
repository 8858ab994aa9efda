"""Measuring restored images: metrics, baselines, reports and pictures."""
