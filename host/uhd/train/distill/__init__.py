"""Distillation: a student also learns from the outputs and features of a teacher."""

from __future__ import annotations

from uhd.train.distill.distiller import Distiller
from uhd.train.distill.settings import DistillSettings
from uhd.train.distill.teacher import Teacher, load_backbone, load_teacher

__all__ = ["DistillSettings", "Distiller", "Teacher", "load_backbone", "load_teacher"]
