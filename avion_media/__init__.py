"""avion-media: the media service of the Avion network."""
