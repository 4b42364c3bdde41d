"""The tokens with which the commands authenticate, from settings or files."""

from __future__ import annotations

import httpx
from pydantic import SecretStr

from avion_media.cli.output import CommandFailed, UsageError
from avion_media.common.credentials import read_tokens
from avion_media.common.settings import PREFIX
from avion_media.servers.settings import AdminConfig, ClientConfig


def caller_metadata(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    """Return the metadata of gRPC calls: the caller's token, if there is one."""
    token = _token(config.token, config.token_file, "CLIENT__TOKEN_FILE")
    return (("authorization", f"Bearer {token}"),) if token else ()


def operator_headers(config: AdminConfig) -> dict[str, str]:
    """Return the headers for the admin port: an operator's token, if there is one, from the settings of the service."""
    token = _token(config.token, config.token_file, "ADMIN__TOKEN_FILE")
    return {"Authorization": f"Bearer {token}"} if token else {}


def check_admitted(response: httpx.Response) -> httpx.Response:
    """Return the admin port's response. Raises `CommandFailed` if the port did not accept the token."""
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise CommandFailed(f"{response.url} is for operators: give their token as {PREFIX}ADMIN__TOKEN")
    return response.raise_for_status()


def _token(given: SecretStr, path: str, setting: str) -> str:
    if given or not path:
        return given.get_secret_value()
    try:
        return read_tokens(path)[0]
    except (OSError, ValueError) as error:
        raise UsageError(f"{PREFIX}{setting}: {error}") from None
