"""Source distributions of installed packages: from the configured package index, by its own client."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

DOWNLOAD_TIMEOUT_S = 120
BUILD_BACKEND = "hatchling"
"""What all three are built with: pip asks it for the name and version of what it downloaded."""


SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python 3.11 has it from 3.11.4 on."""


def fetch_source(distribution: str, folder: Path) -> Path:
    """Return where the source of the installed version lies, unpacked in `folder`."""
    wanted = f"{distribution}=={version(distribution)}"
    subprocess.run(
        [
            *(_uv(), "run", "--quiet", "--no-project", "--isolated"),
            *("--with", "pip", "--with", BUILD_BACKEND, "python", "-m", "pip", "download"),
            *("--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"),
            *("--dest", str(folder), wanted),
        ],
        check=True,
        timeout=DOWNLOAD_TIMEOUT_S,
    )
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, **SAFELY)
    [source] = (each for each in folder.iterdir() if each.is_dir())
    return source


def _uv() -> str:
    found = os.environ.get("UV") or shutil.which("uv")
    assert found, "uv is needed to fetch sources: pip install uv"
    return found
