# SPDX-License-Identifier: Apache-2.0
"""The agent's parser under a hostile host: mutated descriptions of processes, with sanitizers."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.node.runv.bundles import configuration

from ensconce.node.runv.protocol import Kind, Tag, frame, number, record, text
from ensconce.node.runv.spec import process_records

GUEST = Path(__file__).parents[3] / "src/ensconce/node/runv/guest"
ROUNDS = 3000


def description() -> bytes:
    mount = number(0, 0, 0, 1) + text("bind", "box/m0", "/data", "")
    device = number(0o020666, 1, 3, 0, 0) + text("/dev/null")
    return b"".join([
        record(Tag.CONTAINER, text("box")),
        record(Tag.ROOT, text("box/root")),
        record(Tag.MOUNT, mount),
        record(Tag.DEVICE, device),
        record(Tag.SYSCTL, text("net/x", "1")),
        record(Tag.LIMIT, text("pids.max", "9")),
        record(Tag.FILTER, number(0) + bytes(16)),
        process_records(configuration("echo", "hello")["process"], None),
    ])  # fmt: skip


def mutate(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(changed))
        changed[at] = chance.choice([0, 0xFF, changed[at] ^ 1 << chance.randrange(8)])
    return bytes(changed[: chance.randint(1, len(changed))])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("the sanitizers need gcc")
    made = tmp_path_factory.mktemp("hostile") / "host"
    sources = [Path(__file__).parent / "hostile/host.c", GUEST / "wire.c", GUEST / "plan.c"]
    flags = ["-std=c11", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    subprocess.run(
        ["gcc", *flags, "-fno-sanitize-recover=all", f"-I{GUEST}", "-o", made, *sources], check=True
    )
    return made


def test_no_description_of_a_process_makes_the_agent_read_or_write_outside_it(
    reader: Path, tmp_path: Path
) -> None:
    chance = random.Random(6)  # noqa: S311 # the same mutations each time
    whole = description()
    paths = []
    for place in range(ROUNDS):
        changed = mutate(whole, chance)
        data = changed if place % 2 else frame(Kind.RUN, 1, changed) * 2
        paths.append(tmp_path / str(place))
        paths[-1].write_bytes(data)
    done = subprocess.run([reader, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_honest_description_is_read(reader: Path, tmp_path: Path) -> None:
    (tmp_path / "honest").write_bytes(description())
    assert subprocess.run([reader, tmp_path / "honest"], check=False).returncode == 0
