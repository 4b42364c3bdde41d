"""What is done to media: sniffing, scrubbing, thumbnails, posters, and the cage that it is done in."""
