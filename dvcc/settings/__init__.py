"""Settings of every command line: their names, types and defaults. Groups of defaults are in configs/."""

from dvcc.settings.base import CodecConfig, DataConfig, TaskConfig
from dvcc.settings.evaluation import (
    LEVELS,
    RATES,
    BenchmarkConfig,
    BenchmarkData,
    EvaluateControlConfig,
    EvaluateSurrogateConfig,
)
from dvcc.settings.training import (
    ControlConfig,
    ControlModel,
    FlowConfig,
    FlowData,
    LoggerConfig,
    LossWeights,
    ObjectiveConfig,
    StudentConfig,
    StudentData,
    SurrogateConfig,
    SurrogateModel,
    TrainerConfig,
)

__all__ = [
    "LEVELS",
    "RATES",
    "BenchmarkConfig",
    "BenchmarkData",
    "CodecConfig",
    "ControlConfig",
    "ControlModel",
    "DataConfig",
    "EvaluateControlConfig",
    "EvaluateSurrogateConfig",
    "FlowConfig",
    "FlowData",
    "LoggerConfig",
    "LossWeights",
    "ObjectiveConfig",
    "StudentConfig",
    "StudentData",
    "SurrogateConfig",
    "SurrogateModel",
    "TaskConfig",
    "TrainerConfig",
]
