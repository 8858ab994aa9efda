"""Methods that train one network on single noisy images: their base, blind spots, sub-images and divergence."""
