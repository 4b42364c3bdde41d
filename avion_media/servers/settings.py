"""Settings of the ports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from avion_media.common.settings import (
    BaseUrl,
    Bind,
    BindAddress,
    Duration,
    HttpUrl,
    Networks,
    OperatorToken,
    OptionalBind,
    Section,
    Token,
)
from avion_media.workers.settings import WorkerSettings


class TlsSection(Section):
    """A port. A certificate enables TLS; a client CA makes the server request client certificates (mTLS)."""

    tls_cert: str = Field("", description="PEM file with the certificate chain; setting it enables TLS")
    tls_key: str = Field("", description="PEM file with the private key; empty: the key is in the certificate file")
    tls_client_ca: str = Field("", description="PEM file with the CA that client certificates must come from (mTLS)")

    @field_validator("tls_key", "tls_client_ca")
    @classmethod
    def _has_certificate(cls, path: str, info: ValidationInfo) -> str:
        if path and not info.data.get("tls_cert"):
            raise ValueError("needs TLS_CERT of the same port")
        return path

    @property
    def scheme(self) -> str:
        """The scheme of its URLs, if it speaks HTTP."""
        return "https" if self.tls_cert else "http"


class GrpcConfig(TlsSection):
    """The gRPC port."""

    bind: BindAddress = Field(Bind(host="127.0.0.1", port=50051), description="Address and port of gRPC")
    auth: Literal["", "off", "token", "mtls", "any"] = Field(
        "",
        description="How callers authenticate: `token`, `mtls`, `any` (either), or `off`;"
        " required unless the port is bound to loopback",
    )
    callers_file: str = Field("", description="TOML file with the callers and the methods that each may call")
    max_connections: int = Field(1000, ge=1, description="Maximum open connections; further ones are closed")
    max_connection_age: Duration = Field(
        3600.0, gt=0, description="Age (±10 %) at which clients are asked to reconnect"
    )
    max_calls: int = Field(
        1000, ge=1, description="Maximum concurrent calls of this process; streams get three quarters of them"
    )

    @field_validator("auth")
    @classmethod
    def _is_whole(cls, auth: str, info: ValidationInfo) -> str:
        if auth in ("mtls", "any") and not (info.data.get("tls_cert") and info.data.get("tls_client_ca")):
            raise ValueError(f"{auth} needs GRPC__TLS_CERT and GRPC__TLS_CLIENT_CA")
        return auth

    @field_validator("callers_file")
    @classmethod
    def _is_needed(cls, path: str, info: ValidationInfo) -> str:
        auth = info.data.get("auth")  # None if it is invalid itself
        if auth is not None and bool(path) != (auth in ("token", "mtls", "any")):
            raise ValueError("goes with GRPC__AUTH token, mtls or any" if path else f"GRPC__AUTH {auth} needs it")
        return path

    @property
    def authenticates(self) -> bool:
        """Whether callers must authenticate."""
        return self.auth in ("token", "mtls", "any")


class HttpConfig(TlsSection):
    """The origin."""

    bind: BindAddress = Field(Bind(host="127.0.0.1", port=8080), description="Address and port of the origin")
    public_url: BaseUrl = Field("", description="Public base URL of the origin, used in command output")
    mode: Literal["proxy", "redirect", "accel"] = Field(
        "proxy",
        description="How bodies are sent: `proxy` sends them itself, `redirect` responds 307 with a presigned URL of"
        " the store, `accel` hands that URL to an nginx in front, which fetches it",
    )
    redirect_ttl: Duration = Field(
        3600.0, ge=2, le=7 * 86400, description="Lifetime of redirect URLs; caches may keep a redirect for half of it"
    )
    max_connections: int = Field(1000, ge=1, description="Maximum open connections; further ones are closed")
    trusted_proxies: Networks = Field(
        (),
        description="Networks of the proxies in front of the origin and gRPC: their connections do not count as those"
        " of one client, and their `X-Forwarded-For` names the client of the origin",
    )
    keep_alive: Duration = Field(
        75.0,
        ge=1,
        description="How long an idle connection stays open; must be longer than the proxy in front keeps its own",
    )


DEVELOPMENT = "development"
"""The environment whose parts may be killed without a warning."""


class AdminConfig(TlsSection):
    """The admin port, which must not be public. `/livez`, `/readyz` and `/metrics` are open; everything else needs an
    operator's token."""

    bind: BindAddress = Field(
        Bind(host="127.0.0.1", port=9090),
        description="Address and port of /livez, /readyz, /metrics, /tree and /console; must not be public",
    )
    token: OperatorToken = Field(SecretStr(""), description="Bearer token for operators: at least 32 characters")
    token_file: str = Field(
        "",
        description="File with operator tokens of at least 32 characters, one per line, each perhaps followed by a role"
        " (`viewer`, `moderator` or `operator`, the default) and a name; reloaded when it changes",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Networks of the proxies in front of the admin port: their connections do not count as those of one"
        " client, their `X-Forwarded-For` names the client, and with `ADMIN__ROLE_HEADER` they name the operator",
    )
    role_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="Header in which a proxy of `ADMIN__TRUSTED_PROXIES` sends the roles or groups of an operator, such"
        " as `Remote-Groups`; empty: the proxy authenticates no operators",
    )
    user_header: str = Field(
        "Remote-User",
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header in which that proxy sends the name of the operator, for the audit log",
    )
    auth: Literal["", "off"] = Field(
        "", description="`off`: operators need no token, even where other machines can connect"
    )
    public_url: BaseUrl = Field(
        "",
        description="URL at which browsers reach the console through a proxy, such as `https://media-ops.example.org`;"
        " with https the session's cookie is `Secure`, with the prefix `__Host-`",
    )
    uploads: bool = Field(False, description="Whether the console has an upload box; `dev` switches it on")
    environment: str = Field(
        "",
        max_length=30,
        description="Name of this environment in the console's header, such as `production`; `development` is that of"
        " `dev`: there `CHAOS__ENABLED` is no danger",
    )
    prometheus_url: HttpUrl = Field(
        "",
        description="URL of a Prometheus that collects the metrics of all replicas: the console then also shows a day"
        " and a week; empty: only the last hour",
    )

    @field_validator("role_header")
    @classmethod
    def _has_proxies(cls, header: str, info: ValidationInfo) -> str:
        if header and info.data.get("trusted_proxies") == ():  # None if they are invalid themselves
            raise ValueError("needs ADMIN__TRUSTED_PROXIES, the addresses of the proxy that sets this header")
        return header

    @field_validator("auth")
    @classmethod
    def _is_one(cls, auth: str, info: ValidationInfo) -> str:
        for name in ("token", "token_file", "role_header"):
            if auth == "off" and info.data.get(name):
                raise ValueError(f"contradicts ADMIN__{name.upper()}")
        return auth

    @property
    def authenticates(self) -> bool:
        """Whether operators must authenticate."""
        return self.has_tokens or bool(self.role_header)

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the console by https: at this port, or at the proxy in front."""
        return bool(self.tls_cert) or self.public_url.startswith("https:")

    @property
    def has_tokens(self) -> bool:
        """Whether operators can authenticate by a token."""
        return bool(self.token) or bool(self.token_file)


class ClientConfig(Section):
    """How the commands `upload`, `cache` and `status` reach and authenticate at the running service."""

    address: OptionalBind = Field(None, description="Address of the gRPC port; empty: `GRPC__BIND`")
    token: Token = Field(SecretStr(""), description="Bearer token of a caller")
    token_file: str = Field("", description="File with the bearer token of a caller")
    tls_ca: str = Field("", description="PEM file with the CA of the server's certificate; setting it enables TLS")
    tls_cert: str = Field("", description="PEM file with the client's certificate (mTLS)")
    tls_key: str = Field(
        "", description="PEM file with the client's private key; empty: the key is in the certificate file"
    )


class ServerSettings(WorkerSettings):
    """All sections."""

    grpc: GrpcConfig = GrpcConfig()
    http: HttpConfig = HttpConfig()
    admin: AdminConfig = AdminConfig()
    client: ClientConfig = ClientConfig()
