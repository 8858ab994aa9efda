"""Instruments and diagnosis of the dual-domain method."""
