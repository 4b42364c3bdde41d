"""An upload URL lives for minutes, and may be PUT to again while its medium is being validated."""
