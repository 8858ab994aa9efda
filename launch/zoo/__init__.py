"""The models that come with Quell, in `weights/`, each with its card; `quell zoo` lists them."""
