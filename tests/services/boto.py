"""A new client of boto3 costs little once its models of S3 are in memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
import botocore.session


def share_models() -> None:
    """Read the models now, for all sessions of this process and of those that it forks. Otherwise each reads them."""
    patched: Any = botocore.session
    patched.create_loader = cache(patched.create_loader)
    boto3.Session("key", "secret", region_name="us-east-1").client("s3").close()
