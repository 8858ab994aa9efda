"""What a run is: schema, loader, registry; no torch here."""
