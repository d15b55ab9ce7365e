"""The configurations of all tasks."""

from vision.config import TrainConfig, VisionConfig
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.drawing.pixels_config import PixelsConfig

CONFIGS: dict[str, type[VisionConfig]] = {
    config.task: config for config in (TrainConfig, FlowConfig, ContrastiveRunConfig, PixelsConfig)
}
"""By the names of the tasks; a run folder that names none is of the first."""
