"""A whole Ceph on one machine, in memory: one monitor, one OSD on a memstore, one radosgw. It speaks S3.

No manager daemon and no replication, so pools never report full health, which S3 does not need. Packages: ceph-mon,
ceph-osd, radosgw, ceph-common. It starts in about
1.5 s, since the monitor proposes at once: by default it gathers changes for a second before each of a dozen steps.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import secrets
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.addresses import S3Address
from tests.services.process import Program, accepts_connections, free_port, require, run, running, working_directory

_START_TIMEOUT_S = 90.0
# A bound, not an allocation. At 95 % of it Ceph holds back every request, without an error.
_MEMSTORE_BYTES = 4 << 30


@dataclass(frozen=True)
class _Node:
    """The files and names of this one-node cluster."""

    directory: Path
    fsid: str
    mon_port: int
    rgw_port: int

    @property
    def conf(self) -> Path:
        return self.directory / "ceph.conf"

    @property
    def keyring(self) -> Path:
        return self.directory / "keyring"

    @property
    def monmap(self) -> Path:
        return self.directory / "monmap"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def command(self, program: str, *arguments: str) -> list[str | Path]:
        """A Ceph program with this node's configuration."""
        package = {"ceph": "ceph-common", "radosgw-admin": "radosgw"}.get(program, program)
        return [require(program, package), "--conf", self.conf, *arguments]


class CephNode:
    """The running cluster. Its gateway, the part that speaks S3, can be killed and started again at its address."""

    def __init__(self, node: _Node) -> None:
        self._node = node
        self._gateway: Program | None = None

    @property
    def configuration(self) -> Path:
        """The file that Ceph's own commands read, for `CEPH_CONF`."""
        return self._node.conf

    def start_gateway(self) -> None:
        """Start it and wait until it listens. What was written before is there again."""
        node = self._node
        command = node.command("radosgw", "-n", "client.admin", "-f")
        self._gateway = Program([*command], node.log("rgw-output"))
        self._gateway.wait_until(lambda: accepts_connections(node.rgw_port), _START_TIMEOUT_S)

    def kill_gateway(self) -> None:
        """SIGKILL, with whatever it had in hand. Safe to repeat."""
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway = None

    def stop_gateway(self) -> None:
        """SIGTERM. Safe to repeat."""
        if self._gateway is not None:
            self._gateway.stop()
            self._gateway = None

    def create_user(self) -> S3Address:
        """The endpoint with the keys of a new user."""
        return _create_user(self._node)


@contextmanager
def ceph() -> Iterator[S3Address]:
    """Start the cluster and yield its S3 endpoint with the keys of one user. Raises ServiceFailed."""
    with ceph_node() as node:
        yield node.create_user()


@contextmanager
def ceph_node() -> Iterator[CephNode]:
    """The same for tests that kill its gateway, without a user yet. Raises ServiceFailed."""
    for program, package in (
        ("monmaptool", "ceph-common"), ("ceph", "ceph-common"), ("ceph-mon", "ceph-mon"), ("ceph-osd", "ceph-osd"),
        ("radosgw", "radosgw"), ("radosgw-admin", "radosgw"),
    ):  # fmt: skip
        require(program, package)
    with working_directory("ceph") as directory, ExitStack() as daemons:
        node = _Node(directory, str(uuid.uuid4()), free_port(), free_port())
        _write_configuration(node)
        daemons.enter_context(_monitor(node))
        daemons.enter_context(_osd(node))
        running_node = CephNode(node)
        daemons.callback(running_node.stop_gateway)
        running_node.start_gateway()
        yield running_node


def _write_configuration(node: _Node) -> None:
    for name in ("mon", "osd", "rgw", "run"):
        (node.directory / name).mkdir()
    node.keyring.write_text(
        f'[mon.]\n  key = {_new_key()}\n  caps mon = "allow *"\n'
        f"[client.admin]\n  key = {_new_key()}\n"
        + "".join(f'  caps {daemon} = "allow *"\n' for daemon in ("mon", "osd", "mgr", "mds"))
    )
    node.keyring.chmod(0o600)
    base = node.directory
    node.conf.write_text(f"""\
[global]
fsid = {node.fsid}
mon_host = v2:127.0.0.1:{node.mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv4 = true
ms_bind_ipv6 = false
ms_bind_msgr1 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {node.keyring}
run_dir = {base}/run
admin_socket = {base}/run/$name.asok
log_file = {base}/$name.log
log_to_stderr = false
err_to_stderr = true
crash_dir = {base}/run
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_pg_num = 8
rgw_rados_pool_pg_num_min = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_warn_on_pool_no_redundancy = false

[mon]
mon_data = {base}/mon
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_tick_interval = 1
mon_data_avail_crit = 1
mon_data_avail_warn = 1

[osd]
osd_data = {base}/osd
keyring = {base}/osd/keyring
osd_objectstore = memstore
memstore_device_bytes = {_MEMSTORE_BYTES}
osd_class_dir = {_class_directory()}

[client]
rgw_data = {base}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{node.rgw_port} tcp_nodelay=1
rgw_trust_forwarded_https = true
rgw_enable_usage_log = false
rgw_enable_gc_threads = true
rgw_gc_obj_min_wait = 1
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
rgw_enable_lc_threads = true
rgw_lc_debug_interval = -1
debug_rgw = 1
""")


@contextmanager
def _monitor(node: _Node) -> Iterator[Program]:
    setup = node.log("setup")
    address = f"[v2:127.0.0.1:{node.mon_port}/0]"
    run(
        [require("monmaptool", "ceph-common"), "--create", "--fsid", node.fsid, "--addv", "a", address, node.monmap],
        setup,
    )
    make = ("--mkfs", "-i", "a", "--monmap", str(node.monmap), "--keyring", str(node.keyring))
    run(node.command("ceph-mon", *make), node.log("mon.a"))
    (node.directory / "mon" / "keyring").write_bytes(node.keyring.read_bytes())
    with running(node.command("ceph-mon", "-i", "a", "-f"), node.log("mon-output")) as monitor:
        monitor.wait_until(lambda: accepts_connections(node.mon_port), _START_TIMEOUT_S)
        yield monitor


@contextmanager
def _osd(node: _Node) -> Iterator[Program]:
    secret = _new_key()
    osd_uuid = str(uuid.uuid4())
    run(
        node.command("ceph", "osd", "new", osd_uuid, "-i", "-"),
        node.log("mon.a"),
        stdin=json.dumps({"cephx_secret": secret}),
    )
    (node.directory / "osd" / "keyring").write_text(f"[osd.0]\n  key = {secret}\n")
    run(node.command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid), node.log("osd.0"))
    run(
        node.command("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost"), node.log("mon.a")
    )
    with running(node.command("ceph-osd", "-i", "0", "-f"), node.log("osd-output")) as osd:
        yield osd


def _create_user(node: _Node) -> S3Address:
    access_key = f"TEST{secrets.token_hex(8).upper()}"
    secret_key = secrets.token_hex(20)
    keys = ("--access-key", access_key, "--secret-key", secret_key)
    _administer(
        node, "user", "create", "--uid", "avion", "--display-name", "avion-media tests", "--max-buckets", "0", *keys
    )
    # As docs/how-to/sign-with-put-only-keys.md says.
    upload_keys = (f"PUT{secrets.token_hex(8).upper()}", secrets.token_hex(20))
    subuser = ("--uid", "avion", "--subuser", "avion:uploads")
    _administer(node, "subuser", "create", *subuser, "--access", "write")
    keys = ("--access-key", upload_keys[0], "--secret-key", upload_keys[1])
    _administer(node, "key", "create", *subuser, "--key-type", "s3", *keys)
    return S3Address(f"http://127.0.0.1:{node.rgw_port}", access_key, secret_key, *upload_keys)


def _administer(node: _Node, *arguments: str) -> None:
    run(node.command("radosgw-admin", "-n", "client.admin", *arguments), node.log("client.admin"), timeout_s=60)


def _new_key() -> str:
    """A cephx key: type 1, creation time, key length, 16 random bytes."""
    header = struct.pack("<hiih", 1, int(time.time()), 0, 16)
    return base64.b64encode(header + os.urandom(16)).decode()


def _class_directory() -> str:
    # Debian builds the OSD with a relative path, and radosgw then fails for want of its object classes.
    found = [*glob.glob("/usr/lib/*/rados-classes"), "/usr/lib/rados-classes"]
    return found[0]
