# SPDX-License-Identifier: Apache-2.0
"""Jobs of submitit stand in for processes: with its local executor, and with a stand-in for the commands of Slurm."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="submitit (extra `cluster`) is not installed")

from submitit.core.core import Job  # noqa: E402

from benchmarks.transfer.cluster import ClusterPool, cause, cluster_pool  # noqa: E402

SLURM = {
    "sbatch": """#!/bin/bash
job=${!#}
cp "$job" "$FAKE_SLURM/submitted.sh"
folder=$(dirname "$job")
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_JOB_ID=7
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_NODELIST=n \\
    bash "$job" > "$folder/7_0_log.out" 2> "$folder/7_0_log.err" &
echo "Submitted batch job 7"
""",
    "srun": """#!/bin/bash
while [[ $1 == -* ]]; do if [[ $1 == *=* || $1 == --unbuffered ]]; then shift; else shift 2; fi; done
exec "$@"
""",
    "sacct": """#!/bin/bash
echo "JobID|State|NodeList"; echo "7|RUNNING|n"
""",
    "scancel": "#!/bin/bash\n",
    "scontrol": "#!/bin/bash\necho n\n",
}


def as_jobs(
    folder: Path, cluster: str = "local", workers: int = 2, **job
) -> contextlib.AbstractContextManager[ClusterPool]:
    return cluster_pool(cluster, {"timeout_min": 2, **job}, workers, folder / "jobs")


def test_results_and_errors_of_jobs(tmp_path: Path) -> None:
    with as_jobs(tmp_path) as jobs:
        good, bad = jobs.submit(int, "5"), jobs.submit(int, "x")
        assert good.result() == 5
        with pytest.raises(RuntimeError, match=r"^job \d+: ValueError: invalid literal.*'x'; see .*log\.err$"):
            bad.result()


def test_jobs_are_cancelled_where_the_run_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "_results_timeout_s", 0.1)
    with pytest.raises(KeyboardInterrupt), as_jobs(tmp_path, workers=1) as jobs:
        running, waiting = (jobs.submit(time.sleep, 100) for _ in range(2))
        while not jobs.jobs:
            time.sleep(0.05)
        raise KeyboardInterrupt
    assert waiting.cancelled() and len(jobs.jobs) == 1 and jobs.jobs[0].done()
    with pytest.raises(RuntimeError, match=r"^job \d+: "):
        running.result()


def test_a_job_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for stands in the file that sbatch gets, and what the job returns comes back."""
    for name, script in SLURM.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    with as_jobs(tmp_path, "slurm", 1, slurm_partition="gpu", gpus_per_node=1, cpus_per_task=8, mem_gb=64) as jobs:
        assert jobs.submit(partial(int, base=2), "101").result() == 5
    asked = (tmp_path / "submitted.sh").read_text()
    for line in ("--partition=gpu", "--gpus-per-node=1", "--cpus-per-task=8", "--mem=64GB", "--time=2"):
        assert f"#SBATCH {line}\n" in asked
    assert sys.executable in asked


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"cluster is 'pbs', expected one of \['slurm', 'local'\]"),
        as_jobs(tmp_path, "pbs"),
    ):
        pass
    with pytest.raises(NameError, match="partitoin"), as_jobs(tmp_path, slurm_partitoin="gpu"):
        pass


def test_the_cause_of_an_error_of_submitit() -> None:
    line = "-" * 22
    assert (
        cause(f"Job (task=0) failed\n{line}\nTraceback\nValueError: wrong\n\n{line}\nYou can view")
        == "ValueError: wrong"
    )
    assert cause("Job 3 has not produced any output\nlogs") == "Job 3 has not produced any output"
