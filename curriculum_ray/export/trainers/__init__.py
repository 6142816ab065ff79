"""Schedules for trainers that people already have: kohya's scripts, diffusers, torchtitan and ai-toolkit."""

from curriculum_ray.export.trainers.plan import Plan, PlannedStage, make_plan
from curriculum_ray.export.trainers.targets import TARGETS, Target, schedule_files

__all__ = ["TARGETS", "Plan", "PlannedStage", "Target", "make_plan", "schedule_files"]
