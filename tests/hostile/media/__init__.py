"""Files made to break, fill, stall or fool whoever decodes them."""
