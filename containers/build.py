#!/usr/bin/env python3
"""Builds Padstone's container images without pulling one: `make images`.

What goes into them is from Debian's package archive, PyPI and the Go module proxy:

    base     a minimal Debian, made by mmdebstrap and imported; one a release
    python   the harness of Beam's Python SDK: Debian's Python, Beam's wheel, Beam's boot compiled from its Go module
    server   the static padstone binary and certificates, on nothing

Bases and wheels are kept in .cache/images; an image whose inputs have not changed is not built again. With --base the
images are built on an image of somebody else's instead, such as debian:bookworm-slim, which the engine pulls.

The engine is docker's or podman's, whichever command is there; ENGINE=podman chooses.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / ".cache" / "images"

# Debian releases whose Python can run Beam, which needs 3.10 to 3.13. Debian 11 has 3.9.
RELEASES = {"3.11": "bookworm", "3.13": "trixie"}
SERVER_RELEASE = "bookworm"  # where the server's certificates are from

BOOT = "github.com/apache/beam/sdks/v2/python/container"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
EPOCH = "1577836800"  # 2020: files of a base are not newer, so that the same packages make the same base
# What is left out of a base: nobody reads it in a container. Licences stay.
LEFT_OUT = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"]
INPUTS = "padstone.inputs"  # label with the hash of what an image was built from


class BuildError(RuntimeError):
    """What stands in the way, and what to do about it."""


def beam_version() -> str:
    """The version in requirements.txt, which the boot program's module must have as well."""
    pins = [line.split("==")[1].strip() for line in read(ROOT / "requirements.txt") if line.startswith("apache-beam==")]
    module = output(["go", "list", "-m", "-f", "{{.Version}}", BOOT.removesuffix("/python/container")]).removeprefix(
        "v"
    )
    if pins != [module]:
        raise BuildError(f"requirements.txt asks for apache-beam {pins}, go.mod for {module}: make them equal")
    return module


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()


def run(command: Sequence[str], **kwargs) -> None:
    done = subprocess.run(command, cwd=kwargs.pop("cwd", ROOT), stdin=kwargs.pop("stdin", subprocess.DEVNULL), **kwargs)
    if done.returncode != 0:
        raise BuildError(f"exit code {done.returncode} of: {shlex.join(command)}")


def output(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"exit code {done.returncode} of: {shlex.join(command)}\n{done.stderr.strip()}")
    return done.stdout.strip()


def say(text: str) -> None:
    print(f"images: {text}", flush=True)


class Engine:
    """The docker or podman command."""

    def __init__(self) -> None:
        wanted = os.environ.get("ENGINE")
        found = [name for name in ([wanted] if wanted else ["docker", "podman"]) if shutil.which(name)]
        if not found:
            raise BuildError("no docker or podman command: install Debian's docker.io or podman")
        self.name = found[0]
        done = subprocess.run([self.name, "info"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildError(
                f"{self.name} info: {done.stderr.strip().splitlines()[-1]}\n"
                "Start an engine first; as root on Debian without one: containers/engine.sh start"
            )

    def image(self, tag: str) -> dict | None:
        done = subprocess.run(
            [self.name, "image", "inspect", tag], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def inputs(self, tag: str) -> str:
        """The hash of what the image was built from, "" if it is not there or not ours."""
        image = self.image(tag)
        return ((image or {}).get("Config", {}).get("Labels") or {}).get(INPUTS, "")

    def load_base(self, tar: Path, tag: str, inputs: str) -> None:
        run([self.name, "import", "--change", f"LABEL {INPUTS}={inputs}", str(tar), tag], stdout=subprocess.DEVNULL)

    def build(self, context: Path, tag: str, inputs: str, arguments: dict[str, str]) -> None:
        command = [self.name, "build", "--quiet", "--label", f"{INPUTS}={inputs}", "--tag", tag]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        # The builder that comes with Debian's engine says at length that there is a newer one.
        done = subprocess.run([*command, str(context)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildError(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
        self.prune("padstone.stage")  # twice the size of the image that was made of it
        self.prune(INPUTS)  # the image that had the tag before

    def prune(self, label: str) -> None:
        """Removes images with the label that have no name and are not in use."""
        command = [self.name, "image", "prune", "--force", "--filter", f"label={label}"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)


def digest(*parts: object) -> str:
    """A hash of texts, and of files by their content."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()[:16]


def base(engine: Engine, release: str, given: str) -> tuple[str, str]:
    """The image to build on, and what tells one from another: a hash of our own, the name of a given one."""
    if given:
        return given.format(release=release), given
    tag = f"padstone/base:{release}"
    tar = CACHE / f"base-{release}.tar"
    stamp = digest(*mmdebstrap(release), sources(release), EPOCH)
    if not fresh(tar, stamp):
        make_base(release, tar)
        keep(tar, stamp)
    inputs = digest(tar)
    if engine.inputs(tag) != inputs:
        engine.load_base(tar, tag, inputs)
        say(f"{tag} imported, {tar.stat().st_size >> 20} MiB")
    return tag, inputs


def make_base(release: str, tar: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise BuildError(
            "no mmdebstrap: install it, or let an image be pulled: make images BASE='debian:{release}-slim'"
        )
    say(f"making Debian {release} from its packages, a minute or two")
    partial = tar.with_suffix(".partial")
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [*mmdebstrap(release), str(partial), "-"],
            input=sources(release).encode(),
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        )
        if done.returncode != 0:
            log.seek(0)
            tail = "\n".join(log.read().decode(errors="replace").splitlines()[-20:])
            raise BuildError(f"mmdebstrap failed; DEBIAN_MIRROR={MIRROR}\n{tail}")
    partial.rename(tar)


def mmdebstrap(release: str) -> list[str]:
    """Without its last two arguments, target and sources. `usr-is-merged` saves a Perl that `usrmerge` would want."""
    command = ["mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", "--include=usr-is-merged"]
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", '--aptopt=Acquire::Retries "5"']
    for pattern in LEFT_OUT:
        command += [f"--dpkgopt=path-exclude={pattern}"]
    # Java's packages fail to install where this folder is missing.
    command += ['--customize-hook=mkdir -p "$1/usr/share/man/man1"']
    return [*command, "--dpkgopt=path-include=/usr/share/doc/*/copyright", release]


def sources(release: str) -> str:
    suites = {release: MIRROR, f"{release}-updates": MIRROR, f"{release}-security": f"{MIRROR}-security"}
    return "".join(f"deb {mirror} {suite} main\n" for suite, mirror in suites.items())


def fresh(path: Path, stamp: str) -> bool:
    """Whether what is kept at path was made by the same recipe."""
    mark = path.with_name(path.name + ".stamp")
    return path.exists() and mark.exists() and mark.read_text() == stamp


def keep(path: Path, stamp: str) -> None:
    path.with_name(path.name + ".stamp").write_text(stamp)


def wheels(python: str, beam: str) -> Path:
    """A directory with the wheels of Beam and all that it needs, for the machine's architecture and that Python."""
    wanted = [
        f"apache-beam=={beam}",
        *(line for line in read(HERE / "python" / "requirements.txt") if line and line[0] != "#"),
    ]
    directory = CACHE / f"wheels-{python}"
    stamp = digest(platform.machine(), *wanted)
    if fresh(directory, stamp):
        return directory
    say(f"fetching apache-beam {beam} for Python {python}")
    partial = directory.with_suffix(directory.suffix + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--only-binary=:all:", f"--python-version={python}", f"--dest={partial}", *wanted])
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    keep(directory, stamp)
    return directory


def boot() -> Path:
    """Beam's boot program, static."""
    path = CACHE / "boot"
    go_build(BOOT, path)
    return path


def go_build(package: str, to: Path) -> None:
    flags = ["-trimpath", "-ldflags=-s -w", "-o", str(to)]
    run(["go", "build", *flags, package], env={**os.environ, "CGO_ENABLED": "0", "GOOS": "linux"})


def python_image(engine: Engine, python: str, given: str) -> str:
    beam = beam_version()
    tag = f"padstone/beam_python{python}_sdk:{beam}"
    on, identity = base(engine, RELEASES[python], given)
    directory, program = wheels(python, beam), boot()
    files = [HERE / "python" / name for name in ("Dockerfile", "trim.sh", "boot-python")]
    inputs = digest(identity, *sorted(wheel.name for wheel in directory.iterdir()), program, *files)
    if engine.inputs(tag) == inputs:
        return tag
    say(f"building {tag}, about two minutes")
    with tempfile.TemporaryDirectory(dir=CACHE) as context:
        for file in [*files, program]:
            shutil.copy(file, context)
        shutil.copytree(directory, Path(context) / "wheels", copy_function=os.link)
        engine.build(Path(context), tag, inputs, {"BASE": on})
    return tag


def server_image(engine: Engine, given: str) -> str:
    tag = "padstone/server:latest"
    on, identity = base(engine, SERVER_RELEASE, given)
    program = CACHE / "padstone"
    go_build("./cmd/padstone", program)
    files = [HERE / "server" / name for name in ("Dockerfile", "padstone.yaml")]
    inputs = digest(identity, program, *files)
    if engine.inputs(tag) == inputs:
        return tag
    with tempfile.TemporaryDirectory(dir=CACHE) as context:
        for file in [*files, program]:
            shutil.copy(file, context)
        engine.build(Path(context), tag, inputs, {"BASE": on})
    return tag


def main() -> int:
    known = [f"python{version}" for version in RELEASES] + ["server"]
    this = f"python{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help=f"of {', '.join(known)}; `python` is {this}; default: all"
    )
    parser.add_argument("--base", default="", help="build on this image; {release} in it is Debian's release")
    args = parser.parse_args()
    wanted = [this if name == "python" else name for name in args.images] or known
    if strangers := [name for name in wanted if name not in known]:
        releases = ", ".join(f"{release}'s is {version}" for version, release in RELEASES.items())
        parser.error(
            f"no image {', '.join(strangers)}; there are {', '.join(known)}. They have Debian's Python: {releases}. "
            "`make PYTHON=python3.11` takes another one for all, if it is there; Beam's own images, "
            "apache/beam_python3.12_sdk for example, are pulled"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        engine = Engine()
        for name in wanted:
            tag = (
                server_image(engine, args.base)
                if name == "server"
                else python_image(engine, name.removeprefix("python"), args.base)
            )
            say(f"{tag}, {engine.image(tag)['Size'] / 1e6:.0f} MB")
    except BuildError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
