"""Settings: what the environment says is refused in words where it cannot be."""

import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.resources import settings


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


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        pytest.param("HF_KEEP_DAYS", "0", "`HF_KEEP_DAYS` must be a whole number from 1 to 36,500, was '0'.", id="zero"),
        pytest.param("HF_CACHE_MB", "-1", "`HF_CACHE_MB` must be a whole number from 1 to 1,000,000,000, was '-1'.", id="negative"),
        pytest.param("HF_KEEP_DAYS", "٣", "`HF_KEEP_DAYS` must be a whole number from 1 to 36,500, was '٣'.", id="other digits"),
        pytest.param("HF_TICK_SECONDS", "1" * 30, "`HF_TICK_SECONDS` must be a whole number from 1 to 86,400, was '11111111111111111111'.", id="huge"),
        pytest.param("HF_LATE_HOURS", "nan", "`HF_LATE_HOURS` must be a number from 0 to 240, was 'nan'.", id="no number"),
        pytest.param("HF_LANDING_URI", "ftp://x", "`HF_LANDING_URI` must be a folder or s3://bucket/prefix, was 'ftp://x'.", id="scheme"),
        pytest.param("HF_S3_ENDPOINT", "u:secret@host", "`HF_S3_ENDPOINT` must be an address such as http://127.0.0.1:9000, was none.", id="endpoint"),
        pytest.param("HF_UI_URL", "javascript:x", "`HF_UI_URL` must be an address such as http://127.0.0.1:3000, was 'javascript:x'.", id="ui"),
    ],
)  # fmt: skip
def test_every_command_refuses_a_setting_out_of_its_range_in_one_line(monkeypatch, capsys, name, value, told):
    monkeypatch.setenv(name, value)
    # `--rows` would be refused by this command first if it came that far.
    assert main(["diff", "us_tech/bars", "2013-02-24", "a", "--rows", "-1"]) == 1
    assert capsys.readouterr().err == f"hfp: {told}\n"


def test_require_sound_names_every_faulty_setting(monkeypatch):
    monkeypatch.setenv("HF_KEEP_DAYS", "x")
    monkeypatch.setenv("HF_SILENT_MINUTES", "nan")
    monkeypatch.setenv("HF_LEAST_DISK_MB", "-1")
    monkeypatch.setenv("HF_LEAST_MEMORY_MB", "x")
    monkeypatch.setenv("HF_MAX_ROWS", "0")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        settings.require_sound()
    assert [line.split("`")[1] for line in str(caught.value).splitlines()] == [
        "HF_KEEP_DAYS",
        "HF_SILENT_MINUTES",
        "HF_LEAST_DISK_MB",
        "HF_LEAST_MEMORY_MB",
        "HF_MAX_ROWS",
    ]


def test_data_folder_that_cannot_be_written_is_told_in_one_line(tmp_path, monkeypatch, small_disk):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (small_disk / "filler").write_bytes(bytes(256 * 1024 - 8 * 4096))
    for folder, why in (
        ("/proc", "No such file or directory"),
        (loop, "loop"),
        (small_disk, "No space left on device"),
    ):
        monkeypatch.setenv("HF_DATA_DIR", str(folder))
        with pytest.raises(ValueError, match=f"`HF_DATA_DIR` must be a folder.* was .*{why}"):
            settings.prepare_dagster_home()
