"""Learning: one training over several processes or machines: Ray Train around mmengine's Runner.

Every process calls the same function in a process group of torch (gloo on CPUs, nccl on GPUs); how batches
are shared is the business of `orveil.stages.mm_train`. A process that dies takes the others down with it, and
all begin again at the last checkpoint in the work directory, which all machines must see at the same path.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orveil.pipeline.errors import OrveilError

__all__ = ["on_workers"]

Progress = Callable[[int, int, str], None]
Train = Callable[[Progress], None]

RESTARTS = 3
"""How often the processes begin again before the training gives up."""
START_TIMEOUT_S = 1800
"""Processes wait for free CPUs: other stages may hold them."""
REPORT_EVERY_S = 1.0
FAILED, LOG = "failed.json", "losses.jsonl"
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT_S),
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def on_workers(train: Train, workers: int, work_dir: Path, iterations: int, progress: Progress) -> None:
    """Run a training in several processes.

    Args:
        train: called with a progress function in each process; must be picklable, and find its way by what
            `work_dir` holds when it is called again.
        workers: how many processes. Where the cluster has GPUs, each gets one.
        work_dir: of the training; its `losses.jsonl` is what is reported.
        iterations: of the training.
        progress: called with (done, total, text).

    Raises:
        OrveilError: what `train` raised; processes died again and again; too few GPUs; Ray does not start.
    """
    import ray  # loads slowly

    from orveil.pipeline.cluster import connected

    os.environ.update(ENVIRONMENT)  # before ray.train is imported
    work_dir.mkdir(parents=True, exist_ok=True)
    failed = work_dir / FAILED
    failed.unlink(missing_ok=True)
    ours = not ray.is_initialized()
    with connected(work_dir / "ray", workers, None):
        trainer = _trainer(train, workers, work_dir)
        ended: list[BaseException | None] = []
        # Not in the main thread: there Ray Train would take Ctrl-C for itself, for good.
        thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
        thread.start()
        # A cluster of our own goes with us: nobody has to wait until an explained error was tried again.
        while thread.is_alive() and not (ours and failed.is_file()):
            thread.join(REPORT_EVERY_S)
            _report(work_dir, iterations, progress)
    if ended != [None]:
        raise _explained(work_dir, ended[0] if ended else None)


def _trainer(train: Train, workers: int, work_dir: Path) -> Any:
    import ray
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    total: Mapping[str, float] = ray.cluster_resources()
    gpus = int(total.get("GPU", 0))
    if 0 < gpus < workers:
        raise OrveilError(
            f"the training wants {workers} workers with a GPU each, and there are {gpus} GPUs",
            where="finetune.workers",
            remedy=f"set workers = {gpus}",
        )
    # Fewer CPUs than workers: they share, instead of waiting for ever.
    share = min(1.0, int(1000 * total.get("CPU", 1.0) / workers) / 1000)
    return TorchTrainer(
        _in_worker,
        train_loop_config={"train": train, "work_dir": str(work_dir.resolve())},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker={"CPU": max(share, 0.001)}
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # typed as the class of the former version
            name="training",
            storage_path=str(work_dir.resolve() / "ray-train"),
            failure_config=FailureConfig(  # type: ignore[call-arg]
                max_failures=RESTARTS, controller_failure_limit=RESTARTS
            ),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _fit(trainer: Any, ended: list[BaseException | None]) -> None:
    try:
        trainer.fit()
        ended.append(None)
    except BaseException as error:  # handed to the main thread
        ended.append(error)


def _in_worker(about: Mapping[str, Any]) -> None:
    """What each process does. An error that orveil explains is kept for the user, and not tried again."""
    failed = Path(about["work_dir"]) / FAILED
    if failed.is_file():
        raise OrveilError(**json.loads(failed.read_text("utf-8")))
    try:
        about["train"](lambda done, total, text: None)
    except OrveilError as error:
        text = json.dumps({"what": error.what, "where": error.where, "remedy": error.remedy})
        with contextlib.suppress(OSError):  # every process may write, and the main one must read a whole file
            part = failed.with_name(f"{FAILED}.{os.getpid()}")
            part.write_text(text, "utf-8")
            part.replace(failed)
        raise


def _report(work_dir: Path, iterations: int, progress: Progress) -> None:
    """Pass on the last line of the log that the first process writes."""
    from orveil.stages.mm_hooks import describe

    with contextlib.suppress(OSError, ValueError, IndexError):  # nothing there yet, or half a line
        record = json.loads((work_dir / LOG).read_text("utf-8").splitlines()[-1])
        progress(record["iteration"], iterations, describe(record, iterations))


def _explained(work_dir: Path, error: BaseException | None) -> OrveilError:
    failed = work_dir / FAILED
    if failed.is_file():
        return OrveilError(**json.loads(failed.read_text("utf-8")))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return OrveilError(
        f"the training's processes failed: {lines[-1][:300] if lines else 'no reason given'}",
        where=str(work_dir),
        remedy="they often run out of memory: use fewer workers or smaller batches; a new run goes on from "
        "the last checkpoint",
    )
