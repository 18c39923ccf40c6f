"""The container image, built without Docker or any other daemon: `make image`, `make image-test`.

    python scripts/image.py [--install] [--base IMAGE] [--twice]

Needs Linux, root and buildah; `--install` gets it, podman, runc and mmdebstrap by apt. The image is tagged
`localhost/cloud-worker`, has the commit in its labels and the commit's date as its own: the same commit on the same
base is the same image, and `--twice` builds it again, from nothing, and fails unless that is so.

`--base` names what the Dockerfile builds on, which then comes from a registry: `--base python:3.13-slim-trixie` is
what `docker build` takes. Without it the base is made here once, of the same Debian release with its own Python of
the same version, from wherever this machine's apt gets its packages; no registry of images is needed. It is kept:
`buildah rmi localhost/cloud-worker-base:trixie` has the next build take what Debian has mended since.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "localhost/cloud-worker"
RELEASE = "trixie"
BASE = f"localhost/cloud-worker-base:{RELEASE}"
PACKAGES = ("buildah", "mmdebstrap", "podman", "runc")
INCLUDED = ("ca-certificates", "python3", "python3-venv")
LEFT_OUT = ("doc", "info", "locale", "man")  # of /usr/share, as Debian's slim images do

# A build step sees the certificates that this machine trusts: a proxy's own authority may be among them.
TRUSTED = (Path("/etc/ssl/certs"), Path("/usr/local/share/ca-certificates"))


class Failed(Exception):
    """The message says what is missing or has gone wrong, and what to do."""


def run(*command: str) -> None:
    """Run a command whose output is for the terminal."""
    print("+", " ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def output(*command: str) -> str:
    """Run a command; return what it printed."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def install() -> None:
    """Install what builds and runs images. Only when asked to: it changes this machine."""
    if all(shutil.which(package) for package in PACKAGES):
        return
    if not shutil.which("apt-get"):
        raise Failed(f"--install needs apt-get (Debian, Ubuntu): install {', '.join(PACKAGES)} by hand")
    run("apt-get", "update", "--quiet")
    run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *PACKAGES)


def need(program: str) -> None:
    """Raise Failed unless a program is there."""
    if shutil.which(program) is None:
        raise Failed(f"{program} is not installed: `make image ARGS=--install` installs {', '.join(PACKAGES)} by apt")


# --- the base ---


def archives() -> list[str]:
    """Return this machine's own package archives, as apt names them, but for our release. Raises Failed for none."""
    listed = output("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Identifier: Packages")
    found = dict.fromkeys(tuple(line.split()) for line in listed.splitlines())
    debian = re.compile(r"[a-z]+(|-security|-updates)")
    lines = [
        f"deb {site} {RELEASE}{kind[1]} main"
        for site, codename, component in found
        if component == "main" and "debian" in site and (kind := debian.fullmatch(codename))
    ]
    if not lines:
        raise Failed("apt knows no Debian archive to make a base image from: run `apt-get update`, or name a --base")
    return lines


def make_base() -> None:
    """Make the base image, unless it is there."""
    if (
        subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode
        == 0
    ):
        return
    need("mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="cloud-worker-base-") as folder:
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
        run(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(INCLUDED)}",
            *excluded,
            RELEASE,
            f"{folder}/root.tar",
            *archives(),
        )
        (Path(folder) / "Containerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["python3"]\n')
        run("buildah", "bud", "--timestamp", "0", "--tag", BASE, folder)


# --- the image ---


def version() -> str:
    """Return the version of the package, without importing it."""
    (found,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "worker" / "__init__.py").read_text(), re.MULTILINE)
    return str(found)


def revision() -> str:
    """Return the commit, and whether there is more here than it holds."""
    changed = output("git", "status", "--porcelain")
    return output("git", "rev-parse", "HEAD") + ("-changed" if changed else "")


def build(base: str | None) -> str:
    """Build the image from nothing; return its id."""
    arguments = {"PYTHON_IMAGE": base or BASE, "VERSION": version(), "REVISION": revision()}
    mounts = [f"--volume={path}:{path}:ro" for path in TRUSTED if (TRUSTED[0] / "ca-certificates.crt").exists()]
    run(
        "buildah",
        "bud",
        "--isolation=chroot",  # needs no runtime, and works inside a container
        "--format=docker",  # the other format has no health check
        f"--timestamp={output('git', 'log', '-1', '--format=%ct')}",
        *mounts,
        *([] if base else ["--pull-never"]),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        f"--tag={IMAGE}",
        ".",
    )
    with tempfile.TemporaryDirectory(prefix="cloud-worker-image-") as folder:
        return anonymous(Path(folder))


def anonymous(folder: Path) -> str:
    """Take out of the image in which container it was built, which this builder notes; return the id that is left."""
    named = output("buildah", "images", "--no-trunc", "--format", "{{.ID}}", IMAGE)
    output("buildah", "push", "--quiet", IMAGE, f"docker-archive:{folder / 'built.tar'}:{IMAGE}:latest")
    with tarfile.open(folder / "built.tar") as built, tarfile.open(folder / "image.tar", "w") as image:

        def member(name: str) -> IO[bytes]:
            found = built.extractfile(name)
            assert found is not None  # a file
            return found

        (manifest,) = json.load(member("manifest.json"))
        config = json.load(member(manifest["Config"]))
        del config["container"], config["container_config"], config["config"]["Hostname"]
        body = json.dumps(config).encode()
        manifest["Config"] = f"{hashlib.sha256(body).hexdigest()}.json"
        for name in dict.fromkeys(manifest["Layers"]):
            image.addfile(built.getmember(name), member(name))
        for name, content in ((manifest["Config"], body), ("manifest.json", json.dumps([manifest]).encode())):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            image.addfile(about, io.BytesIO(content))
    kept = output("buildah", "pull", "--quiet", f"docker-archive:{folder / 'image.tar'}")
    output("buildah", "rmi", named)
    return kept


def main(arguments: Sequence[str]) -> int:
    """Build the image as the command line says; 1 with a reason if that cannot be done."""
    parser = argparse.ArgumentParser(prog="image.py", description="Build the container image without a daemon.")
    parser.add_argument("--install", action="store_true", help=f"install {', '.join(PACKAGES)} by apt where missing")
    parser.add_argument("--base", metavar="IMAGE", help="build on this image from a registry; without it, on our own")
    parser.add_argument("--twice", action="store_true", help="build it again, and fail unless it is the same image")
    options = parser.parse_args(arguments)
    try:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Failed("building without a daemon needs Linux and root; elsewhere: `docker build -t cloud-worker .`")
        if options.install:
            install()
        need("buildah")
        if options.base is None:
            make_base()
        built = [build(options.base) for _ in range(2 if options.twice else 1)]
        if len(set(built)) > 1:
            raise Failed(f"the same commit gave two images: {', '.join(built)}")
    except (Failed, subprocess.CalledProcessError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    size = output("buildah", "images", "--format", "{{.Size}}", IMAGE)
    print(f"{IMAGE} {built[0]} {size}" + (" (built twice: the same image)" if options.twice else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
