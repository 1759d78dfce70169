# SPDX-License-Identifier: Apache-2.0
"""Measures each cell in a job of its own on a cluster, with submitit (extra `cluster`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLUSTERS = ("slurm", "local")


class ClusterPool(Executor):
    """Each call is a job; `run_cells` uses it as it uses processes.

    Args:
        executor: of submitit.
        workers: number of jobs that are submitted at once; more wait here.
    """

    def __init__(self, executor: Any, workers: int) -> None:
        self.executor, self.threads = executor, ThreadPoolExecutor(workers)
        self.jobs: list[Any] = []
        self.cancelled = False

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future:
        """A future of function(*args) in a job."""
        return self.threads.submit(self._run, function, args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Waits for the jobs; with `cancel_futures` it cancels them."""
        if cancel_futures:
            self.cancelled = True
            self.threads.shutdown(wait=False, cancel_futures=True)
            for job in self.jobs:
                if not job.done():
                    job.cancel(check=False)
        self.threads.shutdown(wait=wait)

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        job = self.executor.submit(function, *args)
        self.jobs.append(job)
        if self.cancelled:  # between the two lines above
            job.cancel(check=False)
        try:
            return job.result()
        except (FailedJobError, UncompletedJobError) as error:
            raise RuntimeError(f"job {job.job_id}: {cause(str(error))}; see {job.paths.stderr}") from error


@contextmanager
def cluster_pool(cluster: str, job: dict[str, Any], workers: int, folder: Path) -> Iterator[ClusterPool]:
    """A pool of jobs. If the block fails or is interrupted, the jobs that have not ended are cancelled.

    Args:
        cluster: "slurm", or "local": processes of this machine that are started as jobs are.
        job: what each job asks for, in the names of submitit: timeout_min, gpus_per_node, slurm_partition ...
        workers: number of jobs at once.
        folder: for the files of submitit. The nodes must see it, the repository and the folders of the benchmark.

    Raises:
        ImportError: submitit is not installed.
        ValueError: the cluster is not known.
        NameError: submitit does not know a name in `job`.
    """
    if cluster not in CLUSTERS:
        raise ValueError(f"cluster is {cluster!r}, expected one of {list(CLUSTERS)}")
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise ImportError("cluster needs submitit, expected it to be installed (pip install submitit)") from error
    executor = AutoExecutor(folder, cluster)
    executor.update_parameters(name="transfer", **job)
    pool = ClusterPool(executor, workers)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def cause(message: str) -> str:
    """The last line of the traceback in an error of submitit, or the first line of the error."""
    parts = message.split("\n----------------------\n")
    return (parts[1].rstrip().rpartition("\n")[2] if len(parts) > 1 else message.partition("\n")[0]).strip()
