"""Settings: what the environment says is refused in words where it cannot be."""

import pytest

from hf_pipelines.cli import main


@pytest.mark.parametrize(("below", "what"), [("", "a file"), ("/deeper/still", "below the file")])
def test_hfp_with_a_data_folder_that_is_a_file_says_so_in_one_line(tmp_path, monkeypatch, capsys, below, what):
    (tmp_path / "data").write_text("no folder")
    monkeypatch.setenv("HF_DATA_DIR", f"{tmp_path}/data{below}")
    # Without it, preparing the instance would notice.
    monkeypatch.setenv("DAGSTER_HOME", f"{tmp_path}")
    assert main(["current", "us_tech/bars"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hfp: `HF_DATA_DIR` must be a folder, was {tmp_path}/data{below}, {what}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("given", ["s3:/bucket", "gs://bucket/x", "file:/tmp"])
def test_storage_that_is_neither_folder_nor_bucket_is_refused_and_no_folder_made(tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_STORAGE_URI", given)
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == f"hfp: `HF_STORAGE_URI` must be a folder or s3://bucket/prefix, was '{given}'.\n"
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []
