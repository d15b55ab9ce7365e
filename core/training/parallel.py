"""The processes of a run: how they are started, what each of them trains, and what they exchange."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from core.adapters.lora import base_fingerprint
from core.cli.arguments import program
from core.cli.exits import NotSaved
from core.devices import compile_forwards, compile_in_place, device_kind, keep_freed_memory, resolve_precision
from core.files.json_files import read_json
from core.files.serialize import to_dict
from core.scale.launch import distribution, refuse_stale_addresses, sharding_ourselves
from core.scale.remat import blocks_of, rematerialise
from core.scale.shards import shard
from core.training.checkpoints import Checkpoints
from core.training.config import RunConfig
from core.training.folder import differences
from core.training.state import EMA, TrainState, seed_everything
from core.training.throughput import Work, known_peak
from core.training.trained import DATA

if TYPE_CHECKING:
    from accelerate import Accelerator

GPU_INTERVAL = 10  # steps between agreements on a GPU, each of which waits for the device

PACKAGES = ("core", "text", "vision", "decision")
RANKS = ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Variables by which launchers number their processes."""

Say = Callable[[str], None]
OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]
T = TypeVar("T")


def build_accelerator(config: RunConfig) -> Accelerator:
    """Accelerate for one process, or for several under `torchrun` and `accelerate launch`.

    Raises ValueError for a device, precision, tracker or kind of launch that is not available, or for a batch that the
    processes cannot share.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, DistributedType

    refuse_lone_process()
    refuse_stale_addresses()
    if config.tracker == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("tracker = 'tensorboard' needs the package tensorboard: pip install tensorboard")
    kind = device_kind(config.device)
    precision = resolve_precision(config.precision, kind)
    if kind == "cpu":
        keep_freed_memory()
    if kind == "cuda" and config.precision != "fp32":
        torch.set_float32_matmul_precision("high")
    with sharding_ourselves():
        accelerator = Accelerator(
            cpu=kind == "cpu",
            mixed_precision="no" if precision == "fp32" else precision,
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
            log_with=None if config.tracker == "none" else config.tracker,
            project_dir=str(config.out),
        )
    supported = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in supported:
        raise ValueError(f"launched as {accelerator.distributed_type.value}; supported are one process, DDP and FSDP2")
    config.check_processes(accelerator.num_processes)
    return accelerator


def refuse_lone_process() -> None:
    """Raise ValueError where one process was started although more were asked for.

    `accelerate launch --cpu --num_processes N` hands a lone process the address of the others, but no rank
    (Accelerate's issue #2741).
    """
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if on_cpu and "MASTER_PORT" in os.environ and not any(name in os.environ for name in RANKS):
        command = shlex.join(["torchrun", "--nproc_per_node", "N", *program()])
        raise ValueError(f"accelerate launch --cpu started one process instead of several; on CPUs take: {command} ...")


def prepare_training(
    accelerator: Accelerator,
    config: RunConfig,
    objective: nn.Module,
    model: nn.Module,
    build_optimizer: OptimizerFactory,
    say: Say,
) -> tuple[nn.Module, TrainState, Work | None]:
    """Makes a model ready to be trained; returns the objective to call, the state that is then restored, and the work
    of a step where it is to be compared with a peak.

    The order matters: adapters are in the model already; what blocks forget comes before the compiler, which comes
    before what distributes the model; the optimiser and the average hold the parameters that are then there.
    """
    base, work = base_fingerprint(model), counted_work(accelerator, config, objective)
    rematerialise(model, config.remat)
    build = _sharded if distribution(config, accelerator.num_processes) == "sharded" else _whole
    distributed = build(accelerator, config, objective.train(), model, say)
    optimizer = build_optimizer(model)
    ema = EMA(model, config.ema) if config.ema else None
    if accelerator.num_processes > 1:  # the same weights everywhere, but not the same dropout
        seed_everything(config.seed + 1_000_003 * (accelerator.process_index + 1))
    return distributed, TrainState(model, objective, optimizer, ema, accelerator.scaler, base), work


def counted_work(accelerator: Accelerator, config: RunConfig, objective: nn.Module) -> Work | None:
    """What counts the FLOPs of steps, in the main process, where the peak of the device is known."""
    peak = known_peak(accelerator.device, config.peak_tflops)
    return Work(objective, peak * accelerator.num_processes) if peak and accelerator.is_main_process else None


def _whole(accelerator: Accelerator, config: RunConfig, objective: nn.Module, _: nn.Module, say: Say) -> nn.Module:
    """Every process holds all weights (DDP), or there is only one."""
    compile_in_place(objective.to(accelerator.device), config.compile, accelerator.device, say)
    return accelerator.prepare_model(objective)


def _sharded(
    accelerator: Accelerator, config: RunConfig, objective: nn.Module, model: nn.Module, say: Say
) -> nn.Module:
    """Every process holds a shard of the weights (FSDP2). They are moved to the device block by block."""
    blocks, device = blocks_of(model), accelerator.device
    compile_forwards(blocks, config.compile, device, say)
    halved = accelerator.mixed_precision == "bf16" and device.type != "cpu"  # a CPU's norms refuse weights in bf16
    shard(objective, blocks, device.type, config.shard_size, precision="bf16" if halved else "fp32")
    return accelerator.prepare_model(objective, device_placement=False, evaluation_mode=True)  # for its autocast


def release_accelerator(accelerator: Accelerator) -> None:
    """Ends trackers and the process group, and clears Accelerate's global state, so that another run can follow."""
    from accelerate.state import AcceleratorState

    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)


def write_checkpoint(
    checkpoints: Checkpoints, step: int, objects: Mapping[str, Any], state: TrainState, processes: Processes
) -> None:
    """Writes a checkpoint: the main process all of it, but for shards, of which each process writes its own.

    Raises NotSaved in all processes where any could not.
    """
    problem = ""
    try:
        with checkpoints.writing(step, objects) if processes.main else checkpoints.reporting(step) as folder:
            if state.sharded:
                folder = processes.from_main(folder)
            if folder is not None:
                state.write(folder)
    except NotSaved as error:
        problem = str(error)
    for said in filter(None, processes.gathered(problem)):
        raise NotSaved(said)


def check_launch(config: RunConfig, processes: Processes) -> None:
    """Raises ValueError, in all processes, where any was started with other settings, or with other code."""
    if not processes.alone:
        processes.check_alike(to_dict(config) | {"code": code_hash()})


def code_hash() -> str:
    """SHA-256 of the source files that lie beside this one, of all panels."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


class Processes:
    """All processes of a run; every method is to be called by all of them together."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self.alone, self.main = accelerator.num_processes == 1, accelerator.is_main_process
        self._interval = 1 if accelerator.device.type == "cpu" else GPU_INTERVAL
        self._agreed: tuple[int, float] | None = None  # (step, seconds)
        self._pace = 0.0  # seconds per step

    def total(self, value: Any) -> Any:
        """The sum of a tensor or number over all processes."""
        if self.alone:
            return value
        return self._accelerator.reduce(torch.as_tensor(value, device=self._accelerator.device), reduction="sum")

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        from accelerate.utils import gather_object

        values: list[T] = gather_object([value])
        return values

    def check_alike(self, own: Mapping[str, Any]) -> None:
        """Raises ValueError, in all processes, naming the first entry in which one differs from the main process."""
        main, *others = self.gathered(dict(own))
        for rank, other in enumerate(others, 1):
            for name, ours, theirs in differences(main, other):
                both = f"process {rank} has {name} = {theirs!r}, process 0 has {ours!r}"
                raise ValueError(f"{both}: all processes of a run must be started alike")

    def in_main(self, call: Callable[[], T]) -> T:
        """What the main process gets of a call, which the others do not make; its ValueError and OSError are all's."""
        outcome: Any = None
        if self.main:
            try:
                outcome = call()
            except (ValueError, OSError) as error:
                outcome = error
        outcome = self.from_main(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @contextmanager
    def recording_data(self, run_folder: Path) -> Iterator[Path]:
        """A folder for the body to record in what is trained on; the files of the main process are then the run's.

        Raises ValueError, in all processes, where any was given other data; then nothing is left of them.
        """
        if self.alone:
            yield run_folder
            return
        with TemporaryDirectory(prefix=".data.", suffix=".part", dir=run_folder if self.main else None) as aside:
            yield Path(aside)
            record = Path(aside) / DATA
            self.check_alike({DATA: read_json(record) if record.is_file() else {}})
            for file in Path(aside).iterdir() if self.main else ():
                os.replace(file, run_folder / file.name)

    def from_main(self, value: T) -> T:
        """The main process's value."""
        from accelerate.utils import broadcast_object_list

        received: T = broadcast_object_list([value])[0]
        return received

    def agree(self, step: int, seconds: float, stop: bool) -> tuple[float, bool]:
        """The seconds and the request to stop that all processes act on at `step`, to leave the loop together.

        The largest seconds, and whether any is to stop. They are exchanged every few steps; in between, the agreed
        seconds grow at the agreed pace.
        """
        if self.alone:
            return seconds, stop
        if self._agreed is not None and step % self._interval:
            since, before = self._agreed
            return before + self._pace * (step - since), False
        largest = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=self._accelerator.device)
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        agreed_seconds, agreed_stop = largest.tolist()
        if self._agreed is not None:
            since, before = self._agreed
            self._pace = (agreed_seconds - before) / (step - since)
        self._agreed = step, agreed_seconds
        return agreed_seconds, bool(agreed_stop)
