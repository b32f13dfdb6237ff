"""The configuration: one typed, immutable tree that describes a whole run. Imports no torch.

Every field has a range; a value outside it is refused before the run starts. `trainer.config.load` reads the tree from
YAML and overrides.
"""

from trainer.config.block import Block as Block
from trainer.config.entropy_control import BangBangLaw as BangBangLaw
from trainer.config.entropy_control import EntropyControlConfig as EntropyControlConfig
from trainer.config.entropy_control import PaperLaw as PaperLaw
from trainer.config.entropy_control import ScheduleConfig as ScheduleConfig
from trainer.config.entropy_control import SplitRangeLaw as SplitRangeLaw
from trainer.config.learner import CheckpointConfig as CheckpointConfig
from trainer.config.learner import LearnerConfig as LearnerConfig
from trainer.config.model import ModelConfig as ModelConfig
from trainer.config.model import WarmStartConfig as WarmStartConfig
from trainer.config.rollout import EvaluationConfig as EvaluationConfig
from trainer.config.rollout import GeneratorConfig as GeneratorConfig
from trainer.config.run import RunConfig as RunConfig
from trainer.config.service import CONTROL_PLANE_PORT as CONTROL_PLANE_PORT
from trainer.config.service import DASHBOARD_PORT as DASHBOARD_PORT
from trainer.config.service import ControlPlaneConfig as ControlPlaneConfig
from trainer.config.service import LoggerName as LoggerName
from trainer.config.service import PipelineConfig as PipelineConfig
from trainer.config.service import RedisConfig as RedisConfig
from trainer.config.task import CurriculumConfig as CurriculumConfig
from trainer.config.task import RewardConfig as RewardConfig
from trainer.config.task import TaskConfig as TaskConfig
from trainer.config.training import LoraConfig as LoraConfig
from trainer.config.training import OptimizerConfig as OptimizerConfig
