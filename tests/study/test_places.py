"""Addresses of remote storage where a folder belongs: one sentence, and no folder called s3:."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import guarded
from harness.run import main as run
from harness.share import main as share
from harness.study.config import load_study

ADDRESSES = ("s3://bucket/runs", "gs://bucket/runs", "hdfs://host:9000/runs", "abfss:/c@a/runs")
KEYS = ("output", "dataset.root", "dataset.manifest", "dataset.cache")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_remote_storage_is_refused_in_one_sentence(
    key: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(run, [f"{key}={address}", "dataset=manifest"]) == 2
    said = capsys.readouterr()
    scheme = address.partition(":")[0]
    assert said.err.startswith(f"error: {key}={address}: storage behind {scheme}:// is not supp")
    assert "give a folder, on a cluster one that all nodes share" in said.err
    assert said.err.count("\n") == 1 and said.out == ""
    assert list(Path().iterdir()) == []


def test_an_import_into_remote_storage(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(share, ["import", "results.zip", "output=s3://bucket/runs"]) == 2
    assert "output=s3://bucket/runs: storage behind s3://" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_the_address_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(run, ["output=file:///shared/runs"]) == 2
    assert "is an address; give the folder's path alone" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["/shared/runs", "runs", "C:/runs", "a:b/runs", "s3:runs"])
def test_folders_are_left_as_they_are(output: str) -> None:
    assert load_study([f"output={output}"]).output == output
