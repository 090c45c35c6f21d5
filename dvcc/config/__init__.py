"""Settings of every command line: their names, types and defaults. Groups of defaults are in configs/."""

from dvcc.config.base import CodecConfig, DataConfig, TaskConfig
from dvcc.config.evaluation import (
    FIRST_LEVELS,
    LEVELS,
    RATES,
    BenchmarkConfig,
    BenchmarkData,
    CalibrateConfig,
    EvaluateControlConfig,
    EvaluateSurrogateConfig,
)
from dvcc.config.training import (
    ControlConfig,
    ControlModel,
    FlowConfig,
    FlowData,
    LoggerConfig,
    LossWeights,
    StudentConfig,
    StudentData,
    SurrogateConfig,
    SurrogateModel,
    TrainerConfig,
)

__all__ = [
    "FIRST_LEVELS",
    "LEVELS",
    "RATES",
    "BenchmarkConfig",
    "BenchmarkData",
    "CalibrateConfig",
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
    "StudentConfig",
    "StudentData",
    "SurrogateConfig",
    "SurrogateModel",
    "TaskConfig",
    "TrainerConfig",
]
