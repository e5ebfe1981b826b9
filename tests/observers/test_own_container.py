"""The id of the own container, from samples as engines and kernels write them."""

from __future__ import annotations

import pytest

from observers.own import parse_own_id

ID = "4f0c8e7ad1b7c2936e5d0a8f4b1c6e9d2a7f3b5c8d0e1f2a3b4c5d6e7f809112"
OTHER = "a9" * 32
ROOT = (
    "712 613 0:52 / / rw,relatime - overlay overlay "
    "rw,lowerdir=/var/lib/docker/overlay2/l/ABC,upperdir=/var/lib/docker/overlay2/"
    + OTHER
    + "/diff"
)


def docker_files(root: str, id_: str = ID) -> str:
    lines = [
        f"{730 + n} 712 254:1 {root}/containers/{id_}/{name} /etc/{name} rw - ext4 /dev/a rw"
        for n, name in enumerate(("resolv.conf", "hostname", "hosts"))
    ]
    return "\n".join([ROOT, *lines]) + "\n"


def podman_files(root: str, id_: str = ID, own: str = "") -> str:
    marker = f"740 712 0:24 {root}/overlay-containers/{own or id_}/userdata/.containerenv"
    source = f"{root}/overlay-containers/{id_}/userdata"
    lines = [
        f"{730 + n} 712 0:24 {source}/{name} /etc/{name} rw - tmpfs t rw"
        for n, name in enumerate(("resolv.conf", "hosts", "hostname"))
    ]
    return "\n".join([ROOT, *lines, f"{marker} /run/.containerenv rw - tmpfs tmpfs rw"]) + "\n"


V1 = f"12:pids:/docker/{ID}\n11:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/docker/{ID}\n"
V2_PRIVATE = "0::/\n"
HOST_MOUNTS = "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"

SAMPLES = {
    "docker 20.10, cgroup v1, host cgroup namespace": ("", V1),
    "docker 20.10, cgroup v1 and systemd": ("", f"3:cpu:/system.slice/docker-{ID}.scope\n"),
    "docker 23, cgroup v2, --cgroupns host": ("", f"0::/system.slice/docker-{ID}.scope\n"),
    "docker 24, cgroup v2, --cgroupns private": (docker_files("/var/lib/docker"), V2_PRIVATE),
    "docker 28, data root is a mount of its own": (docker_files(""), V2_PRIVATE),
    "docker 28, rootless": (docker_files("/home/u/.local/share/docker"), V2_PRIVATE),
    "docker, snap": (docker_files("/snap/common/var-lib-docker"), V2_PRIVATE),
    "docker in docker": ("", f"4:cpu:/docker/{OTHER}/docker/{ID}\n"),
    "podman 4, cgroup v1": ("", f"4:cpu:/machine.slice/libpod-{ID}.scope\n"),
    "podman 4, cgroup v1, cgroupfs": ("", f"4:cpu:/libpod_parent/libpod-{ID}\n"),
    "podman 4, cgroup v2, own group inside": (
        "",
        f"0::/machine.slice/libpod-{ID}.scope/container\n",
    ),
    "podman 5, private cgroup namespace": (podman_files("/containers/storage"), V2_PRIVATE),
    "podman 5, rootless": (
        podman_files("/containers"),
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n",
    ),
    "podman, the host files are those of the container whose network it shares": (
        podman_files("/containers/storage", OTHER, own=ID),
        V2_PRIVATE,
    ),
    "docker, whose hostname file was replaced": (
        docker_files("/var/lib/docker").replace("/hostname /etc", "/hostname//deleted /etc"),
        V2_PRIVATE,
    ),
}


@pytest.mark.parametrize(("mountinfo", "cgroup"), SAMPLES.values(), ids=SAMPLES)
def test_a_container_knows_its_id(mountinfo: str, cgroup: str) -> None:
    assert parse_own_id(mountinfo, cgroup, "web") == ID


def test_the_default_host_name_is_the_last_resort() -> None:
    assert parse_own_id(ROOT, V2_PRIVATE, ID[:12]) == ID[:12]
    assert parse_own_id(docker_files(""), V2_PRIVATE, OTHER[:12]) == ID


HOSTS = {
    "host, cgroup v2": (HOST_MOUNTS, "0::/user.slice/user-0.slice/session-1.scope\n"),
    "host, cgroup v1": (HOST_MOUNTS, "12:pids:/user.slice\n1:name=systemd:/init.scope\n"),
    "host whose podman watches a container": (
        HOST_MOUNTS,
        f"0::/machine.slice/libpod-conmon-{ID}.scope\n",
    ),
    "host that sees a container's mounts": (
        (
            f"90 29 0:52 / /var/lib/docker/overlay2/{ID}/merged rw - overlay overlay rw\n"
            f"91 29 0:60 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n"
        ),
        "0::/\n",
    ),
    "nothing to read": ("", ""),
    "not what was expected": ("a\nb c\n\n", "x\n:\n::\n"),
}


@pytest.mark.parametrize(("mountinfo", "cgroup"), HOSTS.values(), ids=HOSTS)
def test_a_host_is_no_container(mountinfo: str, cgroup: str) -> None:
    assert parse_own_id(mountinfo, cgroup, "build-7") is None
