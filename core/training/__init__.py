"""What every training loop shares: run folder, devices, optimiser, schedule, checkpoints, metrics."""

from core.training.checkpoints import load_weights, read_config
from core.training.config import OptimizerConfig, RunConfig, ScheduleConfig
from core.training.metrics import read_metrics
from core.training.optimizers import build_optimizer
from core.training.run import Run

__all__ = [
    "OptimizerConfig",
    "Run",
    "RunConfig",
    "ScheduleConfig",
    "build_optimizer",
    "load_weights",
    "read_config",
    "read_metrics",
]
