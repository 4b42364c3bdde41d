"""The Kubernetes manifests: valid by Kubernetes' own schemas, and true to the configuration and the code."""

from __future__ import annotations

import ipaddress
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest

from avion_media.app import build_tree
from avion_media.backends.queue import QueueKeys
from avion_media.common.settings import PREFIX
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.config import Config, ports_without_auth
from avion_media.process.runtime import ROLES, Runtime
from avion_media.service import drain_budget
from guarded_fetch import PUBLIC_PORTS, AddressGuard, AddressRefused
from tests.ops.manifests import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Manifest,
    build,
    build_with,
    container,
    named,
    of_kind,
    pods,
    quantity,
    roles,
    settings,
    validate,
)

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)
# Memory of the service without its sandboxed processes. It takes 120 MB when idle. The rest is for the bodies of images
# that it transfers, each of at most 16 MiB.
SERVICE_BYTES = 512 << 20


@pytest.mark.parametrize("version", KUBERNETES)
def test_everything_passes_the_schemas_strictly(overlay: str, version: str) -> None:
    for each in build(overlay):
        validate(each, version)


def test_the_schemas_find_a_mistake(overlay: str) -> None:
    api = named(overlay, "Deployment", "avion-media-api")
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(api | {"spec": api["spec"] | {"replica": 3}}, KUBERNETES[-1])


def test_the_settings_are_settings_of_the_service(overlay: str) -> None:
    config = settings(overlay)
    assert config.log.format == "json"
    assert ports_without_auth(config, ROLES) == []


def test_no_variable_of_kubernetes_own_looks_like_a_setting(overlay: str) -> None:
    services = [each["metadata"]["name"] for each in of_kind(overlay, "Service")]
    assert any(f"{name.upper().replace('-', '_')}_SERVICE_HOST".startswith(PREFIX) for name in services)
    assert all(pod["spec"]["enableServiceLinks"] is False for _name, pod in pods(overlay))


def test_every_role_runs_exactly_once(overlay: str) -> None:
    given = [role for _name, pod in pods(overlay) for role in roles(pod)]
    commands = {container(pod)["args"][0] for _name, pod in pods(overlay)}
    assert sorted(given) == sorted(ROLES)
    assert commands == {"serve", "init", "sweep"}


def test_a_drain_fits_into_the_grace_period(overlay: str) -> None:
    config = settings(overlay)
    for deployment in of_kind(overlay, "Deployment"):
        pod = deployment["spec"]["template"]
        budget = drain_budget(config, build_tree(Runtime(config, roles(pod)), config).root)
        assert budget.fits, budget.explain()
        assert pod["spec"]["terminationGracePeriodSeconds"] == config.drain.termination_grace_period


def test_a_lame_duck_is_out_of_the_endpoints_before_it_stops_serving(overlay: str) -> None:
    config = settings(overlay)
    for deployment in of_kind(overlay, "Deployment"):
        probe = container(deployment["spec"]["template"])["readinessProbe"]
        assert probe["httpGet"] == {"path": "/readyz", "port": "admin"}
        assert probe["periodSeconds"] * probe["failureThreshold"] + 2 <= config.drain.settle
        assert probe["failureThreshold"] > 1, "one slow answer would take a pod out of service"


def test_liveness_gives_a_busy_pod_time_and_does_not_look_at_others(overlay: str) -> None:
    for deployment in of_kind(overlay, "Deployment"):
        one = container(deployment["spec"]["template"])
        alive, start = one["livenessProbe"], one["startupProbe"]
        # /readyz tells of outages elsewhere: no reason to restart anything.
        assert alive["httpGet"] == start["httpGet"] == {"path": "/livez", "port": "admin"}
        assert alive["periodSeconds"] * alive["failureThreshold"] >= 60
        assert start["periodSeconds"] * start["failureThreshold"] >= 60


def test_memory_limits_hold_the_sandbox_and_the_service(overlay: str) -> None:
    config = settings(overlay)
    for name, pod in pods(overlay):
        limit = quantity(container(pod)["resources"]["limits"]["memory"])
        if roles(pod) & {"processing", "cache"}:
            assert limit >= config.sandbox.budget + SERVICE_BYTES, name
            assert config.sandbox.budget >= config.sandbox.memory
        else:
            assert limit >= 256 << 20, name


def test_the_spool_holds_the_largest_videos_of_all_slots(overlay: str) -> None:
    config = settings(overlay)
    largest = max(config.upload.max_video_bytes, config.upload.max_image_bytes, config.remote.max_bytes)
    for _name, pod in pods(overlay):
        (volume,) = (each for each in pod["spec"]["volumes"] if "emptyDir" in each)
        assert {"name": volume["name"], "mountPath": "/tmp"} in container(pod)["volumeMounts"]
        if roles(pod) & {"processing", "cache"}:
            # The source, and at worst as much again that was made of it.
            assert quantity(volume["emptyDir"]["sizeLimit"]) >= 2 * config.tasks.slots * largest
            assert (
                quantity(container(pod)["resources"]["requests"]["ephemeral-storage"])
                >= 2 * config.tasks.slots * largest
            )
        assert "ephemeral-storage" in container(pod)["resources"]["requests"]


def test_pods_are_as_confined_as_the_restricted_profile_asks_and_more(overlay: str) -> None:
    for name, pod in pods(overlay):
        spec, one = pod["spec"], container(pod)
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert not any(key in spec for key in ("hostNetwork", "hostPID", "hostIPC"))
        assert "hostPort" not in str(one.get("ports", []))
    (namespace,) = of_kind(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_kernel_has_to_confine_decoders(overlay: str) -> None:
    assert settings(overlay).sandbox.require


def test_secrets_are_referred_to_and_never_there(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    (config_map,) = of_kind(overlay, "ConfigMap")
    for setting in Config.SECRETS:
        assert f"{PREFIX}{setting.replace('.', '__').upper()}" not in config_map["data"]
    assert not any(name.startswith("AWS_") for name in config_map["data"])
    for _name, pod in pods(overlay):
        assert {"secretRef": {"name": "avion-media-secrets"}} in container(pod)["envFrom"]


def test_callers_and_operators_must_prove_who_they_are(overlay: str) -> None:
    config = settings(overlay)
    assert config.grpc.authenticates
    assert config.admin.authenticates
    for name, pod in pods(overlay):  # the Job and the CronJob may need put-only keys from there
        assert pod["spec"]["securityContext"]["fsGroup"] == pod["spec"]["securityContext"]["runAsGroup"], name
        (secret,) = (each for each in pod["spec"]["volumes"] if "secret" in each)
        (mount,) = (each for each in container(pod)["volumeMounts"] if each["name"] == secret["name"])
        for path in (config.grpc.callers_file, config.admin.token_file):
            assert PurePosixPath(path).parent == PurePosixPath(mount["mountPath"])
        assert "subPath" not in mount, "a file mounted by subPath never changes"


def test_images_have_a_version(overlay: str) -> None:
    for _name, pod in pods(overlay):
        _, _, tag = container(pod)["image"].rpartition(":")
        assert tag not in {"", "latest"}


def test_selectors_select_what_they_mean(overlay: str) -> None:
    templates = {name: pod["metadata"]["labels"] for name, pod in pods(overlay)}
    selectors: list[dict[str, str]] = []
    for each in of_kind(overlay, "Deployment", "PodDisruptionBudget"):
        selectors.append(each["spec"]["selector"]["matchLabels"])
    selectors += [each["spec"]["selector"] for each in of_kind(overlay, "Service")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(overlay, "NetworkPolicy")]
    for selector in selectors:
        matching = [name for name, labels in templates.items() if selector.items() <= labels.items()]
        assert matching, selector
        assert len(matching) == 1 or "app.kubernetes.io/component" not in selector


def test_autoscalers_scale_what_there_is(overlay: str) -> None:
    deployments = {each["metadata"]["name"]: each for each in of_kind(overlay, "Deployment")}
    for each in of_kind(overlay, "HorizontalPodAutoscaler", "ScaledObject"):
        target = deployments[each["spec"]["scaleTargetRef"]["name"]]
        # Or every deployment of a new version would undo what the autoscaler did.
        assert "replicas" not in target["spec"]


def test_keda_looks_at_the_queues_of_the_roles_that_it_scales(overlay: str) -> None:
    queues = {"processing": PROCESSING_QUEUE, "cache": CACHE_QUEUE, "delete": DELETE_QUEUE}
    for scaled in of_kind(overlay, "ScaledObject"):
        target = named(overlay, "Deployment", scaled["spec"]["scaleTargetRef"]["name"])
        for each in scaled["spec"]["triggers"]:
            # No consumerGroup, since KEDA ignores streamLength beside it; nor lagCount, which it reads as 0 where Redis
            # knows no lag (and KEDA 2.16 refuses activationLagCount "0": kedacore/keda#6481).
            source, length = (
                ("stream", "streamLength") if each["type"] == "redis-streams" else ("listName", "listLength")
            )
            assert each["metadata"].keys() == {source, length}
        wanted: dict[str, str] = {}
        for role in roles(target["spec"]["template"]) & queues.keys():
            keys = QueueKeys(queues[role])
            wanted |= {role: keys.stream, f"{role}_waiting": keys.waiting, f"{role}_paused": keys.paused}
        triggers = {each["name"]: each["metadata"] for each in scaled["spec"]["triggers"]}
        assert {name: each.get("stream") or each["listName"] for name, each in triggers.items()} == wanted


def test_keda_adds_no_replicas_for_a_queue_that_is_paused(overlay: str) -> None:
    for scaled in of_kind(overlay, "ScaledObject"):
        formula = scaled["spec"]["advanced"]["scalingModifiers"]["formula"]
        nothing = dict.fromkeys((each["name"] for each in scaled["spec"]["triggers"]), 0)
        for each in [name for name in nothing if "_" not in name]:
            waiting = nothing | {f"{each}_waiting": 2000}
            paused = waiting | {f"{each}_paused": 1}
            # The same in Python as in KEDA's language. What workers have counts, so that they finish it.
            assert eval(formula, {"max": max}, waiting) >= 10
            assert eval(formula, {"max": max}, paused) == 0
            assert eval(formula, {"max": max}, paused | {each: 200}) >= 1


def test_the_page_makes_the_secret_with_all_that_keda_reads(overlay: str) -> None:
    page = (ROOT / "docs/how-to/deploy.md").read_text()
    for each in of_kind(overlay, "TriggerAuthentication"):
        for reference in each["spec"]["secretTargetRef"]:
            assert f"secret generic {reference['name']} " in page
            assert f"--from-literal={reference['key']}=" in page


def _egress(overlay: str, labels: dict[str, str]) -> list[Manifest]:
    """All that pods with these labels may reach."""
    return [
        rule
        for each in of_kind(overlay, "NetworkPolicy")
        if each["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in each["spec"].get("egress", [])
    ]


def _public_blocks(rules: list[Manifest]) -> list[dict[str, Any]]:
    blocks = [to["ipBlock"] for rule in rules for to in rule["to"] if "ipBlock" in to]
    return [block for block in blocks if not ipaddress.ip_network(block["cidr"]).is_private]


def test_only_fetchers_reach_the_internet_and_only_by_the_webs_ports(overlay: str) -> None:
    for _name, pod in pods(overlay):
        rules = _egress(overlay, pod["metadata"]["labels"])
        assert rules
        assert all("to" in rule for rule in rules), "a rule without a destination allows everything"
        blocks = _public_blocks(rules)
        if "cache" not in roles(pod):
            assert not blocks
            continue
        assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "2000::/3"]
        (rule,) = (rule for rule in rules if _public_blocks([rule]))
        assert {each["port"] for each in rule["ports"]} == PUBLIC_PORTS


def test_what_decodes_reaches_the_moderation_hook_and_every_console_its_prometheus(overlay: str) -> None:
    for _name, pod in pods(overlay):
        rules = _egress(overlay, pod["metadata"]["labels"])
        reached = [to["podSelector"]["matchLabels"] for rule in rules for to in rule["to"] if "podSelector" in to]
        screens = bool(roles(pod) & {"processing", "cache"})
        assert ({"avion.social/provides": "moderation-hook"} in reached) == screens
        assert {"port": 9090, "protocol": "TCP"} in [port for rule in rules for port in rule.get("ports", [])]


def test_the_init_job_has_a_name_of_its_own_for_each_release_and_for_each_change_of_settings(
    overlay: str, tmp_path: Path
) -> None:
    setting = {"name": "avion-media-config", "behavior": "merge", "literals": ["AVION_MEDIA_S3__BUCKET=another"]}
    variants: list[dict[str, Any]] = [
        {},
        {
            "images": [
                {"name": "registry.example/avion-media", "newName": "elsewhere:5000/media", "digest": "sha256:ab"}
            ]
        },
        {"configMapGenerator": [setting]},
    ]
    names = [_name_of_job(build_with(tmp_path, overlay, **each)) for each in variants]
    assert len(set(names)) == len(variants)


def _name_of_job(objects: tuple[Manifest, ...]) -> str:
    (job,) = (each for each in objects if each["kind"] == "Job")
    assert "ttlSecondsAfterFinished" not in job["spec"], "GitOps would run it again whenever it is gone"
    return str(job["metadata"]["name"])


def test_fetchers_reach_no_address_that_the_guard_refuses(overlay: str) -> None:
    (pod,) = (pod for _name, pod in pods(overlay) if "cache" in roles(pod))
    blocks = _public_blocks(_egress(overlay, pod["metadata"]["labels"]))
    guard = AddressGuard()
    edges = [
        ipaddress.ip_address(int(network[position]) + step)
        for block in blocks
        for network in map(ipaddress.ip_network, [block["cidr"], *block["except"]])
        for position, step in ((0, 0), (-1, 0), (0, -1), (-1, 1))
        if 0 <= int(network[position]) + step < 1 << network.max_prefixlen
        and not (network.version == 6 and int(network[position]) + step < 1 << 32)
    ]
    for address in edges:
        allowed = any(
            address in ipaddress.ip_network(block["cidr"])
            and not any(address in ipaddress.ip_network(each) for each in block["except"])
            for block in blocks
        )
        assert allowed == _lets_through(guard, address), address


def _lets_through(guard: AddressGuard, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        guard.check_address(address, 443)
    except AddressRefused:
        return False
    return True


def test_callers_come_in_by_their_label_and_the_admin_port_is_for_monitoring(overlay: str) -> None:
    doors: dict[str, list[Any]] = {}
    for policy in of_kind(overlay, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for port in rule["ports"]:
                doors.setdefault(port["port"], []).append(rule.get("from"))
    assert doors.keys() == {"admin", "grpc", "http"}
    assert all(doors["admin"])
    assert "monitoring" in str(doors["admin"])
    assert all(doors["grpc"])
    assert doors["http"] == [None]
