"""Media processing: sniffing, scrubbing, thumbnails, posters, and the sandbox for all of it."""
