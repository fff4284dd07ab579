# SPDX-License-Identifier: Apache-2.0
"""The real Helm, where it has been built: `make cluster` does."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ensconce.kube.install.chart import chart_path


def helm() -> str:
    """Return Helm's path, or skip the test."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ensconce/cluster"
    built = sorted(cache.glob("**/helm"), key=lambda path: path.stat().st_mtime)
    files = [str(path) for path in built if path.is_file() and os.access(path, os.X_OK)]
    found = os.environ.get("ENSCONCE_HELM") or shutil.which("helm") or (files or [""])[-1]
    if not found:
        pytest.skip("there is no helm; `make cluster` builds one")
    return found


def helm_template(values: dict[str, Any], folder: Path, namespace: str) -> list[dict[str, Any]]:
    """Return the objects that Helm makes of the chart."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    command = [helm(), "template", "ensconce", str(chart_path()), "--namespace", namespace]
    command += ["--kube-version", "1.34.0", "--values", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]
