"""The MediaService handlers: thin, and free of transport."""
