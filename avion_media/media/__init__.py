"""What is done to media: sniffing, scrubbing, thumbnails, posters, and the sandbox that it is done in."""
