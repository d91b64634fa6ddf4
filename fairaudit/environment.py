"""The machine and the code that made a result, without names of hosts, users or folders."""

import hashlib
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

# What figures come from; each is named only where it is installed. Nothing is imported to learn its version.
PACKAGES = (
    *("numpy", "pandas", "scipy", "pyarrow", "duckdb", "scikit-learn", "fairlearn", "statsmodels", "pydantic"),
    *("pillow", "simplejpeg", "torch", "torchvision", "captum", "safetensors", "jinja2", "matplotlib", "seaborn"),
)


def environment() -> dict[str, Any]:
    """Return the Python, the kind of platform, the versions of packages by name, and the hash of fairaudit's source."""
    libc = " ".join(platform.libc_ver()).strip()
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": " ".join(filter(None, [platform.system(), platform.machine(), libc])),
        "packages": _packages(),
        "source": source_hash(),
    }


@lru_cache(maxsize=1)
def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Return the SHA-256 over the names and contents of fairaudit's own modules: equal code gives equal hashes."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
