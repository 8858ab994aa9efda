"""The dual-domain method's settings, measurements and diagnosis; the method itself is pipelines/dual_domain.py."""
