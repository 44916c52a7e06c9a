"""Whether a student can learn from a teacher, before anything is trained."""

from __future__ import annotations

from uhd.errors import ConfigError
from uhd.models.architectures import ModelConfig
from uhd.models.transformer_config import TransformerConfig
from uhd.train.distill.settings import DistillSettings


def feature_channels(config: ModelConfig) -> int:
    """Channels of what a detector's ``features`` gives."""
    return config.d_model if isinstance(config, TransformerConfig) else config.feature_channels


def _candidates(config: ModelConfig) -> int:
    """Anchors a cell, or queries; 0 where there are neither."""
    if isinstance(config, TransformerConfig):
        return config.num_queries
    return config.anchor_count if config.head == "anchor" else 0


def check_heads(settings: DistillSettings, teacher: ModelConfig, student: ModelConfig, name: str) -> None:
    """Raise ``ConfigError`` (one line) unless the outputs of two heads correspond: kind, classes, anchors or queries.

    The number of anchors is not compared if the student is going to take over the teacher's.
    """
    term = next(iter(settings.output_weights))
    if teacher.head != student.head:
        raise ConfigError(
            f"{term}: {name} has a head of the kind {teacher.head}, the student {student.head}",
            hint="between these only distill_feat works",
        )
    if teacher.class_count != student.class_count:
        raise ConfigError(
            f"{term}: {name} has {teacher.class_count} classes, the student {student.class_count}",
            hint="train both with the same classes and disable_cls",
        )
    theirs, own = _candidates(teacher), _candidates(student)
    if theirs != own and not (student.head == "anchor" and settings.override_from_teacher_anchors):
        kind, hint = "queries", f"give num_queries {theirs}"
        if student.head == "anchor":
            kind, hint = "anchors", "give override_from_teacher_anchors"
        raise ConfigError(f"{term}: {name} has {theirs} {kind}, the student {own}", hint=hint)


def lacking(term: str, teacher: ModelConfig, student: ModelConfig) -> str:
    """What ``term`` needs and two corresponding heads do not have; empty if nothing."""
    if student.head != "anchor":
        return "" if term in ("distill_kl", "distill_box_l1") else f"a {student.head} head has no such output"
    if term == "distill_kl" and not student.class_count:
        return "there are no classes (disable_cls)"
    if term == "distill_quality" and not (teacher.has_quality and student.has_quality):
        return f"the {'student' if teacher.has_quality else 'teacher'} has no quality branch"
    return ""


def check_pair(settings: DistillSettings, teacher: ModelConfig, student: ModelConfig, name: str) -> None:
    """``check_heads``, and that every output in use exists. Raises ``ConfigError`` (one line)."""
    if not settings.output_weights:
        return
    check_heads(settings, teacher, student, name)
    for term in settings.output_weights:
        if missing := lacking(term, teacher, student):
            raise ConfigError(f"{term}: {missing}", hint="leave it out")
