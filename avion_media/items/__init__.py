"""The life of a media item: status, owners, moderation, deletion."""
