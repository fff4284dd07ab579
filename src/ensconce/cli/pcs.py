# SPDX-License-Identifier: Apache-2.0
"""`ensconce platform pcs serve`: the test PCS over HTTP."""

from datetime import UTC, datetime
from pathlib import Path

import click

from ensconce.cli.output import emit, json_option
from ensconce.cli.platform import load_identity, path_option
from ensconce.errors import ConfigError
from ensconce.machine import identity
from ensconce.platform.quoting import EmulatedPlatform

__all__ = ["serve"]


@click.command()
@path_option
@click.option("--port", type=click.IntRange(1, 65535), default=8082, show_default=True)
@json_option
def serve(path: Path | None, port: int, *, as_json: bool) -> None:
    """Be the PCS that a PCCS for emulated platforms asks; on this machine only.

    \b
    Example:
      ensconce platform pcs serve &
      ensconce pccs serve --upstream pcs --url http://127.0.0.1:8082/sgx/certification/v4/ \\
          --root-ca root.der --read-only
    """
    try:
        import uvicorn

        from ensconce.platform.pcs_server import PREFIX, emulated_ppid, pcs_application
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`ensconce platform pcs serve` needs {error.name}, which is not installed; "
            "pip install ensconce[server]"
        ) from error
    where = path or identity.default_path()
    load_identity(where)
    found = EmulatedPlatform.load(where)
    emit(
        {
            "url": f"http://127.0.0.1:{port}{PREFIX}/",
            "fmspc": found.pcs.fmspc,
            "encrypted_ppid": emulated_ppid(found),
            "emulated": True,
        },
        as_json=as_json,
    )
    app = pcs_application(lambda: EmulatedPlatform.load(where), lambda: datetime.now(UTC))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", server_header=False)
