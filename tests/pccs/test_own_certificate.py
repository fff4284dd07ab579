# SPDX-License-Identifier: Apache-2.0
import socket
import ssl
import threading
from pathlib import Path

from ensconce.pccs.own_certificate import write_certificate


def test_a_server_with_a_certificate_of_its_own_is_met_under_its_name(tmp_path: Path) -> None:
    for _ in range(2):  # a restart makes another
        write_certificate(tmp_path, ["pccs.example"])
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client.load_verify_locations(tmp_path / "tls.crt")
    near, far = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as stream:
            stream.read(1)

    with near, far:
        thread = threading.Thread(target=serve)
        thread.start()
        with client.wrap_socket(near, server_hostname="pccs.example") as stream:
            stream.write(b"x")
        thread.join()
