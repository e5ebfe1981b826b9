"""How Debian's own kernel is started on a machine that QEMU emulates, with Docker's images on disk.

Nothing of it is installed: the kernel's package is unpacked beside the images. Nothing of it leads
outside: its network card is plugged into nothing. An engine that runs here already is left alone.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.lab import engine, images
from tests.lab.images import by_apt, output

MACHINE = "qemu-system-x86_64"
PACKAGE = "linux-image-amd64"  # depends on the package of the kernel itself
MEMORY = 3  # GiB
PROCESSORS = 2
DISK = 4  # GiB, only what is written is taken from the machine
FIRST_INIT = Path(__file__).with_name("qemu-init")
# What a root file system over 9P takes, and a disk.
MODULES = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p")


def missing() -> str:
    """Return why there can be none here, empty when there can."""
    if os.geteuid() != 0:
        return "an emulated machine on this one's own file system needs root"
    told = platform.freedesktop_os_release()
    if (told.get("ID"), told.get("VERSION_ID"), platform.machine()) != ("debian", "12", "x86_64"):
        # Later ones have compressed modules, which busybox cannot load.
        return f"its kernel is that of Debian 12 on amd64, and this is {told.get('PRETTY_NAME')}"
    absent = [name for name in (MACHINE, "busybox", "mkfs.ext4") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return engine.unable()


def start(init: Path, directory: Path, cache: Path, scratch: Path) -> tuple[list[str], dict]:
    """Return the words that start it, and the environment that it needs; see guest-init."""
    kernel = _kernel()
    [modules] = (kernel / "lib/modules").iterdir()
    tell = {
        "init": "/init",
        "RELINK_INIT": init,
        "RELINK_RUN": directory,
        "RELINK_MODULES": modules.parent,
        "RELINK_SHARE": "9p",
        "RELINK_DISK": engine.DATA,
    }
    told = " ".join(f"{name}={value}" for name, value in tell.items())
    # Device numbers are told apart: what is below `/` may be several file systems.
    share = "local,security_model=none,multidevs=remap"
    # Not by /dev/kvm: inside another machine it may be there, make one, and let it hang.
    words = [
        MACHINE, "-accel", "tcg,thread=multi", "-smp", str(PROCESSORS), "-m", f"{MEMORY}G",
        "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-kernel", str(next((kernel / "boot").glob("vmlinuz-*"))),
        "-initrd", str(_first_file_system(modules, scratch)),
        "-append", f"console=ttyS0 quiet loglevel=0 panic=-1 {told}",
        "-virtfs", f"{share},path=/,mount_tag=root,readonly=on",
        "-virtfs", f"{share},path={cache},mount_tag=cache",
        "-netdev", "hubport,id=nowhere,hubid=0", "-device", "e1000,netdev=nowhere",
        "-drive", f"file={_disk(scratch)},format=raw,if=virtio,cache=unsafe",
    ]  # fmt: skip
    return words, {}


def main() -> None:
    """Print why there can be none here, nothing when there can."""
    print(missing(), end="")


def _kernel() -> Path:
    """Return where the newest kernel that this machine's apt knows is unpacked."""
    depends = by_apt("apt-cache", "depends", "--important", PACKAGE).split()
    name = depends[depends.index("Depends:") + 1]
    unpacked = engine.HOME / name
    if not unpacked.exists():
        engine.HOME.mkdir(parents=True, exist_ok=True)
        half = engine.HOME / f"{name}.half"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        by_apt("apt-get", "download", "--option=APT::Sandbox::User=root", name, cwd=half)
        [package] = half.glob("*.deb")
        output("dpkg", "--extract", str(package), str(half))
        package.unlink()
        [modules] = (half / "lib/modules").iterdir()
        output("depmod", "--basedir", str(half), modules.name)
        half.rename(unpacked)
    return unpacked


def _first_file_system(modules: Path, scratch: Path) -> Path:
    """Make what the kernel starts from: busybox, the modules of 9P, and qemu-init."""
    tree = scratch / "first"
    for name in ("bin", "dev", "modules", "proc", "root"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(FIRST_INIT, tree / "init")
    for number, module in enumerate(_with_dependencies(modules)):
        shutil.copy(module, tree / f"modules/{number:02}-{module.name}")
    packed = scratch / "first.cpio"
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with packed.open("wb") as file:
        subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc"],
            cwd=tree, input=names.encode(), stdout=file, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    return packed


def _with_dependencies(modules: Path) -> list[Path]:
    """Return the files of MODULES and all that they need, in the order to load (modules.dep(5))."""
    order: dict[str, None] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, needed = line.split(":")
        if Path(file).stem in MODULES:
            order |= dict.fromkeys([*reversed(needed.split()), file])
    return [modules / file for file in order]


def _disk(scratch: Path) -> Path:
    """Make a disk that holds what the tests' own engine has, the images above all.

    To copy an engine's directory takes seconds; to load images into an engine in there, minutes.
    """
    with engine.apart():
        images.make_all()
    disk = scratch / "docker.ext4"
    output("mkfs.ext4", "-q", "-F", "-d", str(engine.DATA), str(disk), f"{DISK}G")
    return disk


if __name__ == "__main__":
    main()
