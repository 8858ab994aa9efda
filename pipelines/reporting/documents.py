"""Titles of the documents that the rules of a diagnosis come from, as `Check.source` gives them.

Their contradictions and what was measured instead: docs/dual_domain.md.
"""

NOISE_LEAKAGE = "Noise-leakage configurations"
QUICK_REFERENCE = "Quick reference"
SOLUTION_SUMMARY = "Solution summary"
FINAL_SOLUTION = "Final solution"
SUPERVISED_SOLUTION = "Supervised solution"
EXPERIMENTS_GUIDE = "Experiments guide"
SPECTROFORMER_REPORT = "Spectroformer loss report"

MEASURED = "measured"
"""Not a document: this project's own measurements."""
