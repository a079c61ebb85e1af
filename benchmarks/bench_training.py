"""Rows per second and peak memory of fine-tuning and distillation as the log grows, and a training step beside torch-rechub's.

    python benchmarks/bench_training.py                          1 and 10 million impressions, then steps beside torch-rechub
    python benchmarks/bench_training.py --millions 1 10 100      other sizes (100 million impressions need 40 GB of disk)
    python benchmarks/bench_training.py --millions               steps alone
    python benchmarks/bench_training.py --millions 1 10 --taught rows that a student is taught by alone

Growth: the real `ingest` makes the rows of a simulated log, with the statistics that every log has; then a process of each size reads
them, fine-tunes a BERT, and distils students under logits of noise, for so many minutes each, in the order of a whole epoch. Memory is the
most that was resident, mapped pages of files among it. From a size on (`ctr_kd.data.disk_arrays.MOST_IN_MEMORY`) rows lie on disk.

Taught rows: with `--taught` the real program goes on to a small fine-tuned BERT. Then a process of each size does what `distill` does
before its students train: a transfer set of a quarter of the training rows is drawn, the BERT says what it thinks of all rows, and rows and
logits are brought together. Memory is what the process holds of its own from the drawing on, and beside it all that was resident, mapped
pages of files among it.

Steps: our students dcn and din, and DCNv2 and DIN of torch-rechub (`benchmarks/peers.py`), on the same rows of the smallest log, with equal
batches, widths and hidden layers, in the same loop, by turns; a ratio for each turn. Beside it, where a step of ours goes. The peers need
`pip install -e '.[peers]'`. Writes results/training.json, with `--taught` results/taught_rows.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_scale import REQUESTS_PER_USER, command, overrides
from pipelines.workspace.resources import peak_memory_bytes

ROOT = Path(__file__).resolve().parent.parent
CANDIDATES, ITEMS = 6, 20_000
VALIDATED = 20_000  # rows; all of a large window would be validated for longer than is trained
BATCH = 4096
WIDTH, HIDDEN = 16, (64, 32)  # of the students beside torch-rechub; the second hidden layer of ours has half of the first
STEP_BATCH, STEPS, TURNS = 1024, 150, 5
PEERS = {"dcn": "DCNv2", "din": "DIN"}
SMALL_BERT = (
    *("statistics.auto=false", "finetune.members=1", "distill.transfer.amount=0.25", "feature_store.memory=512MB"),
    *("pretrain.encoder.width=16", "pretrain.encoder.layers=1", "pretrain.training.minutes=0.1", "pretrain.training.epochs=1"),
    *("finetune.training.minutes=0.1", "finetune.training.epochs=1", "finetune.training.validations=1"),
)


def rows_of(ingest: Path, validated: int) -> Any:
    """Training rows of an assembly, and some of its validation rows."""
    from benchmarks.bench_stability import some_requests
    from ctr_kd.data.samples import Assembly
    from ctr_kd.training.job import TrainingRows

    assembly = Assembly(ingest, 50)
    validation = some_requests(assembly.samples("validation"), validated)
    return assembly, TrainingRows(signature=assembly.signature(), train=assembly.samples("train"), validation=validation)


def measure(ingest: Path, minutes: float) -> dict[str, Any]:
    """Read, fine-tune and distil the rows of an assembly for so many minutes each, in a process of its own, whose memory is measured."""
    from ctr_kd.config import DistillConfig, EncoderConfig, FinetuneConfig
    from ctr_kd.config_students import StudentConfig
    from ctr_kd.config_training import TrainingConfig
    from ctr_kd.training.distill import train_student
    from ctr_kd.training.finetune import finetune
    from ctr_kd.training.job import TrainingJob
    from ctr_kd.training.pretrain import build_encoder

    began = time.perf_counter()
    assembly, rows = rows_of(ingest, VALIDATED)
    found: dict[str, Any] = {"train_rows": len(rows.train), "on_disk": isinstance(rows.train.label, np.memmap)}
    found["read_seconds"] = round(time.perf_counter() - began, 1)
    training = TrainingConfig(epochs=1, batch_size=BATCH, minutes=minutes, validations=1)
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(seed=0, fingerprint="bench", folder=Path(folder), report=lambda text: print(text, file=sys.stderr, flush=True))
        encoder = build_encoder(assembly, rows.signature, EncoderConfig(width=64, layers=2, heads=2))
        _, curve = finetune(encoder, rows, FinetuneConfig(training=training), replace(job, name="bert"), pretraining_rate=1e-3)
        found["finetune_rows_per_second"] = round(curve.steps * BATCH / curve.seconds)
        found["finetune_peak_memory_gb"] = round(peak_memory_bytes() / 2**30, 2)
        del encoder
        teacher = np.random.default_rng(0).standard_normal((len(rows.train), 1), np.float32)
        for kind in ("pooled", "dcn"):
            config = DistillConfig(training=training, student=StudentConfig(kind=kind))
            _, curve = train_student(rows, config, replace(job, name=kind), teacher=teacher)
            found[f"{kind}_rows_per_second"] = round(curve.steps * BATCH / curve.seconds)
            found[f"{kind}_share_of_epoch"] = round(curve.steps * BATCH / len(rows.train), 3)
    return found | {"peak_memory_gb": round(peak_memory_bytes() / 2**30, 2)}


def of_size(millions: float, minutes: float, folder: Path) -> tuple[dict[str, Any], Path]:
    """Figures of a log of so many million impressions, and its assembly."""
    requests = int(millions * 1e6 / CANDIDATES)
    world = {"requests": requests, "users": requests // REQUESTS_PER_USER, "items": ITEMS, "candidates": CANDIDATES}
    workspace = folder / f"{millions:g}"
    if not list(workspace.glob("artifacts/ingest/*/summary.json")):
        settings = [f"source.simulator.{key}={value}" for key, value in world.items()]
        command("ingest", workspace, *overrides(*settings, "statistics.auto=false"))  # as many columns whatever the size
    (ingest,) = (path.parent for path in workspace.glob("artifacts/ingest/*/summary.json"))
    asked = [sys.executable, __file__, "--measure", str(ingest), "--minutes", str(minutes)]
    ended = subprocess.run(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = {"impressions": requests * CANDIDATES, **json.loads(ended.stdout), "load_average": round(os.getloadavg()[0], 1)}
    print(json.dumps(found), flush=True)
    return found, ingest


def memory_now() -> dict[str, float]:
    """Resident memory of this process in GB: all of it, and what is its own and not a page of a file."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    held = {line.split(":")[0]: int(line.split()[1]) / 2**20 for line in status if line.startswith(("VmRSS", "RssAnon"))}
    return {"resident": held["VmRSS"], "own": held["RssAnon"]}


class PeakMemory:
    """The most of :func:`memory_now` while it is open, looked at a hundred times a second."""

    def __enter__(self) -> PeakMemory:
        self.most, self._ended = memory_now(), threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.most = {name: max(held, self.most[name]) for name, held in memory_now().items()}


def measure_taught(workspace: Path, settings: list[str]) -> dict[str, Any]:
    """What `distill` does in a workspace that is fine-tuned until its students train, in a process of its own, whose memory is measured."""
    from pipelines.config.run import load
    from pipelines.stages import distill
    from pipelines.tasks import task_of
    from pipelines.tasks.logits import SPLITS
    from pipelines.training import transfer_set
    from pipelines.workspace.context import RunContext, StageContext

    inputs = {stage: next((workspace / "artifacts" / stage).glob("*/_manifest.json")).parent for stage in distill.STAGE.upstream}
    run = RunContext(load(ROOT / "conf" / "simulated.yaml", settings), workspace)
    drawn: dict[str, Any] = {}

    def draw(*asked: Any) -> Any:
        began = time.perf_counter()
        facts = transfer_set.write_pairs(*asked)
        drawn["seconds"], drawn["before"] = round(time.perf_counter() - began, 1), memory_now()
        peak.most = dict(drawn["before"])  # the engine that draws has a limit of its own
        return facts

    with tempfile.TemporaryDirectory(dir=workspace) as folder, PeakMemory() as peak:
        began = time.perf_counter()
        context = StageContext(run, "distill", distill.STAGE.keys, inputs, Path(folder))
        transfer_set.WRITERS = {"clicks": draw}
        assembly = task_of(run.config).assembly(inputs["ingest"], "student")
        samples = {split: assembly.samples(split) for split in SPLITS}
        _, _, taught = distill._ask_teachers(context, assembly, samples)
        seconds = time.perf_counter() - began
    return {
        "train_rows": len(samples["train"]),
        "taught_rows": len(taught),
        "on_disk": isinstance(taught.label, np.memmap),
        "drawing_seconds": drawn["seconds"],
        "seconds": round(seconds - drawn["seconds"], 1),
        "own_memory_before_gb": round(drawn["before"]["own"], 2),
        "own_memory_gb": round(peak.most["own"], 2),
        "resident_memory_gb": round(peak.most["resident"], 2),
    }


def taught_of_size(millions: float, folder: Path) -> dict[str, Any]:
    """Figures of the taught rows of a log of so many million impressions."""
    requests = int(millions * 1e6 / CANDIDATES)
    world = {"requests": requests, "users": requests // REQUESTS_PER_USER, "items": ITEMS, "candidates": CANDIDATES}
    settings = [*(f"source.simulator.{key}={value}" for key, value in world.items()), *SMALL_BERT]
    workspace = folder / f"taught_{millions:g}"
    if not list(workspace.glob("artifacts/finetune/*/_manifest.json")):
        command("run", workspace, *overrides(*settings), "--until", "finetune")
    asked = [sys.executable, __file__, "--measure-taught", str(workspace), *settings]
    ended = subprocess.run(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = {"impressions": requests * CANDIDATES, **json.loads(ended.stdout), "load_average": round(os.getloadavg()[0], 1)}
    print(json.dumps(found), flush=True)
    return found


def taught(sizes: list[float], folder: Path) -> dict[str, Any]:
    """Figures of the taught rows of logs of so many million impressions, and the memory that a row takes which the last has more."""
    runs = [taught_of_size(millions, folder) for millions in sizes]
    rows, memory = ([run["taught_rows"] for run in runs], [run["own_memory_gb"] for run in runs])
    growth = (memory[-1] - memory[-2]) * 2**30 / (rows[-1] - rows[-2]) if len(runs) > 1 else None
    asked = " ".join(f"{millions:g}" for millions in sizes)
    report = {"command": f"python benchmarks/bench_training.py --millions {asked} --taught"}
    return report | {"bytes_per_further_row": None if growth is None else round(growth, 1), "runs": runs}


def steps_beside(ingest: Path, threads: int) -> dict[str, Any]:
    """Rows per second of training steps, of ours and of the peers by turns, and where a step of ours goes."""
    import torch

    from benchmarks.peers import Trial, train_peer
    from ctr_kd.config import DistillConfig
    from ctr_kd.config_students import StudentConfig
    from ctr_kd.config_training import TrainingConfig
    from ctr_kd.training.distill import train_student
    from ctr_kd.training.job import TrainingJob

    torch.set_num_threads(threads)
    _, rows = rows_of(ingest, 2000)
    epochs = STEPS * STEP_BATCH / len(rows.train)
    trial = Trial(width=WIDTH, hidden=HIDDEN, statistics="encoded", epochs=epochs, batch_size=STEP_BATCH)
    training = trial.training().model_copy(update={"validations": 1})
    found: dict[str, Any] = {"batch": STEP_BATCH, "width": WIDTH, "hidden": list(HIDDEN), "steps": STEPS, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:

        def speed(name: str, turn: int) -> float:
            job = TrainingJob(seed=turn, fingerprint="bench", folder=Path(folder), name=f"{name}_{turn}")
            if name in PEERS.values():
                _, curve = train_peer(name, rows, trial, job)
            else:
                student = StudentConfig(kind=name, width=WIDTH, hidden=HIDDEN[0])
                _, curve = train_student(rows, DistillConfig(training=training, student=student), job)
            return curve.steps * STEP_BATCH / curve.seconds

        for kind, peer in PEERS.items():
            pairs = [(speed(kind, turn), speed(peer, turn)) for turn in range(TURNS)]
            ratios = [ours / theirs for ours, theirs in pairs]
            found[kind] = {
                "rows_per_second": round(statistics.median(ours for ours, _ in pairs)),
                f"torch_rechub_{peer}_rows_per_second": round(statistics.median(theirs for _, theirs in pairs)),
                "ratio": round(statistics.median(ratios), 2),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "milliseconds_of_a_step": parts_of_a_step(kind, rows, TrainingConfig(batch_size=STEP_BATCH)),
            }
            print(json.dumps({kind: found[kind]}), flush=True)
    return found


def parts_of_a_step(kind: str, rows: Any, training: Any) -> dict[str, float]:
    """Milliseconds of a step of the student alone, by part: the mean over the steps, the first ones left out."""
    import torch

    from ctr_kd.config_students import StudentConfig
    from ctr_kd.models.students import student_class
    from ctr_kd.objectives.classification import cross_entropy_share
    from ctr_kd.training.loop import row_plan, training_batch
    from ctr_kd.training.optimizer import Optimizer, ParameterGroup, clip_gradients

    torch.manual_seed(0)
    model = student_class(kind)(rows.signature, StudentConfig(kind=kind, width=WIDTH, hidden=HIDDEN[0]))
    optimizer = Optimizer(model, [ParameterGroup(list(model.parameters()))], training)
    rng, label = np.random.default_rng(0), torch.from_numpy(rows.train.label)
    spent = dict.fromkeys(("batch", "forward", "backward", "clipping", "optimizer"), 0.0)
    warm = 10
    for number, chosen in enumerate(row_plan(rows.train, STEP_BATCH)(rng)[: STEPS + warm]):
        at = [time.perf_counter()]
        batch = training_batch(rows.train, chosen, rng, training)
        at.append(time.perf_counter())
        loss = cross_entropy_share(model(*batch), label[chosen], label[chosen])
        at.append(time.perf_counter())
        optimizer.zero_grad()
        loss.backward()
        at.append(time.perf_counter())
        clip_gradients(model.parameters(), training.clip)
        at.append(time.perf_counter())
        optimizer.step()
        at.append(time.perf_counter())
        if number >= warm:
            for part, seconds in zip(spent, np.diff(at), strict=True):
                spent[part] += float(seconds)
    return {part: round(seconds / STEPS * 1e3, 2) for part, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, nargs="*", default=[1, 10], help="impressions of each log; none: steps alone")
    parser.add_argument("--minutes", type=float, default=2, help="of each training of a log [default: 2]")
    parser.add_argument("--threads", type=int, default=1, help="of the steps beside torch-rechub [default: 1]")
    parser.add_argument("--folder", type=Path, help="where the workspaces lie, and stay [default: a temporary folder]")
    parser.add_argument("--taught", action="store_true", help="measure how taught rows are brought together, and nothing else")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure-taught", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure_taught:
        workspace, *settings = arguments.measure_taught
        print(json.dumps(measure_taught(Path(workspace), settings)))
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.minutes)))
        return
    file = ROOT / "benchmarks" / "results" / "training.json"
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.taught:
            found = json.dumps(taught(arguments.millions, folder), indent=1)
            file.with_name("taught_rows.json").write_text(found + "\n", encoding="utf-8")
            return
        sizes = [of_size(millions, arguments.minutes, folder) for millions in arguments.millions]
        if sizes:
            runs = [found for found, _ in sizes]
            growth = {
                name: round(runs[0][f"{name}_rows_per_second"] / runs[-1][f"{name}_rows_per_second"], 2)
                for name in ("finetune", "pooled", "dcn")
            }
            asked = " ".join(f"{millions:g}" for millions in arguments.millions)
            report |= {"command": f"python benchmarks/bench_training.py --millions {asked} --minutes {arguments.minutes:g}"}
            report |= {"growth_of_cost_per_row": growth, "runs": runs}
            print(f"a row of the largest log costs {growth} times one of the smallest")
        if importlib.util.find_spec("torch_rechub") is None:
            print("skipped: steps beside torch-rechub need pip install -e '.[peers]'")
        else:
            _, ingest = sizes[0] if sizes else of_size(1, 0.1, folder)
            report["steps"] = steps_beside(ingest, arguments.threads)
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
