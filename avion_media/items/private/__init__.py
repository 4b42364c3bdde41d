"""Private media: tokens that open one media item, and their revocation."""
