"""A run as the folder of a shared model: the facts about it, its card, and the folder."""
