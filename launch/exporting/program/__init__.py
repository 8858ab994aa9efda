"""A restoration as one module of torch, and traced as operators that no longer need Python."""
