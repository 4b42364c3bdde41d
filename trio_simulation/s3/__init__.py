"""A model of an S3 store."""
