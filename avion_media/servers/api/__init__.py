"""The MediaService handlers. They are thin, and know only a call and its status of the transport."""
