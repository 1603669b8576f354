"""What is given as a setting and cannot be used stops the start with one sentence that shows no value."""

from pathlib import Path
from typing import Any

import pytest

from tracestone.schema.errors import StartRefused
from tracestone.schema.settings import load

WRONG_FILES = {
    "no-utf-8": b"host: \xff\xfe\n",
    "no-yaml": b"host: [1\n",
    "a-number-for-a-name": b"1: 2\n",
    "a-list": b"- 1\n",
    "a-date-that-is-none": b"host: 2020-13-45\n",
}
WRONG_FLAGS = {
    "postgres_url": ["hunter2", "http://me:hunter2@host/db", "postgresql://me:hunter2@host:port/db"],
    "clickhouse_url": ["hunter2", "http://", "tcp://me:hunter2@host:9000", "http://me:hunter2@[host/"],
    "judge_api_bases": [["http://me:hunter2@host/v1"]],
    "port": ["hunter2"],
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(WRONG_FILES[name])
    with pytest.raises(StartRefused, match=r"^The configuration file .*\.$"):
        load(file=file)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_FLAGS.items() for value in values])
def test_a_wrong_value(name: str, value: Any) -> None:
    with pytest.raises(StartRefused, match=rf"^The setting {name}.* cannot be used: .*\.$") as refused:
        load({name: value})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["scorers", "judge_api_bases", "allowed_hosts"])
def test_a_list_in_the_environment_that_is_no_json(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TRACESTONE_{name.upper()}", "[bad hunter2")
    with pytest.raises(StartRefused, match=f"^The setting {name} cannot be used: .*JSON") as refused:
        load()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:pass@host:5432/db", "postgres://host/db", "postgresql:///db?host=/run/postgresql"]
)
def test_addresses_of_postgres(url: str) -> None:
    given = load({"postgres_url": url, "clickhouse_url": "https://me:pass@host:8443/"})
    assert given.postgres_url is not None and given.postgres_url.get_secret_value() == url
    assert "pass" not in repr(given)
