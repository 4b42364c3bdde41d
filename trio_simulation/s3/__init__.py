"""A model of an S3 store: one bucket, over HTTP/1.1 on the simulated network. Needs the extra ``s3`` (h11)."""

from .messages import Answer, Request
from .model import S3Model, Trouble
from .objects import StoredObject

__all__ = ["Answer", "Request", "S3Model", "StoredObject", "Trouble"]
