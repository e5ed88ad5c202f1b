"""Back ends: what a device is."""
