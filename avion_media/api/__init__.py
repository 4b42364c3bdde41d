"""The MediaService handlers: thin; of the transport they know a call and its status."""
