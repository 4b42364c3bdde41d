"""The models of S3 that boto3 reads for every session: most of what a new client costs."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
import botocore.session


def share_models() -> None:
    """Let all sessions of this process, and of those that it forks, read them once: now."""
    patched: Any = botocore.session
    patched.create_loader = cache(patched.create_loader)
    boto3.Session("key", "secret", region_name="us-east-1").client("s3").close()
