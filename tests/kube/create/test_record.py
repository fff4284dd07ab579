# SPDX-License-Identifier: Apache-2.0
"""The record survives what happens to it, and says what it can't be."""

import json
import re
from pathlib import Path

import pytest

from ensconce.errors import ConfigError, FormatError
from ensconce.kube.create import Phase, Records, create, provider_for
from ensconce.kube.create.record import default_records


def test_a_record_is_read_as_it_was_written(records: Records) -> None:
    made = records.begin("prod", "existing", {"context": "c"})
    made.done.append("reach")
    made.note(nodes=["a"], gone=None)
    assert records.find("prod") == made
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in records.all()] == ["prod"]


def test_two_runs_do_not_work_on_one_cluster(records: Records) -> None:
    with (
        records.open("prod"),
        pytest.raises(ConfigError, match="by another process"),
        records.open("prod"),
    ):
        pass


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "../a", "a" * 41, "a.b", "a\n"])
def test_names_that_would_leave_the_folder_or_the_cloud_are_refused(
    name: str, records: Records
) -> None:
    with pytest.raises(ConfigError, match="can't name a cluster"):
        records.find(name)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 2}', '{"version": 1}', "[" * 10000]
)
def test_what_is_no_record_is_named(text: str, records: Records) -> None:
    path = records.folder / "prod.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(FormatError, match=re.escape(str(path))):
        records.find("prod")


@pytest.mark.parametrize(
    "change", [{"phase": "odd"}, {"done": "init"}, {"facts": []}, {"name": "other"}, {"more": 1}]
)
def test_a_record_with_a_wrong_field_is_refused(
    change: dict[str, object], records: Records
) -> None:
    made = records.begin("prod", "existing", {})
    made.save()
    made.path.write_text(json.dumps(json.loads(made.path.read_text()) | change))
    with pytest.raises(FormatError, match="is no record"):
        records.find("prod")


def test_a_cluster_that_is_being_deleted_is_not_created(records: Records) -> None:
    made = records.begin("prod", "existing", {})
    made.phase = Phase.DELETING
    with pytest.raises(ConfigError, match="is being deleted"):
        create(provider_for("existing", "prod", {}), made)


def test_records_lie_in_the_users_state_folder() -> None:
    assert default_records({"XDG_STATE_HOME": "/s"}).folder == Path("/s/ensconce/clusters")
