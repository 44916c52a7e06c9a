"""TransformerConfig: every option of the ``transformer`` architecture, as data. Imports no torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from uhd.manifest import ScoreMode
from uhd.models.base import Activation, Arch, HeadKind, ModelOptions


class TransformerConfig(ModelOptions):
    """A small DETR: convolutional tokens at stride 2, encoder, decoder, one box for each of ``num_queries`` queries."""

    num_queries: int = Field(default=10, ge=1)
    d_model: int = Field(default=64, ge=4)
    heads: int = Field(default=4, ge=1, description="attention heads; leave no trace in the weights")
    layers: int = Field(default=3, ge=1, description="of the encoder, and of the decoder")
    dim_feedforward: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    activation: Activation = "silu"
    use_fpn: bool = Field(default=False, description="tokens of four maps: stride 2 twice, 4 and 8")
    use_batchnorm: bool = Field(default=True, description="in the blocks that make those maps")

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.d_model % self.heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of heads {self.heads}")
        if self.d_model % 4:
            raise ValueError(f"d_model {self.d_model} is not a multiple of 4, which the positional encoding needs")
        return self

    @property
    def arch(self) -> Arch:
        return "transformer"

    @property
    def head(self) -> HeadKind:
        return "detr"

    @property
    def class_count(self) -> int:
        return self.num_classes

    @property
    def has_quality(self) -> bool:
        return False

    @property
    def quality_power(self) -> float:
        return 1.0

    @property
    def out_stride(self) -> int:
        """Pixels of the input per cell of the map that ``features`` gives."""
        return 8 if self.use_fpn else 2

    @property
    def map_names(self) -> tuple[str, ...]:
        return ("logits", "boxes")

    @property
    def resolved_score_mode(self) -> ScoreMode:
        """A query's score is the probability of its class."""
        return "cls"

    def maps_for(self, score_mode: ScoreMode | None = None) -> tuple[str, ...]:
        """All maps, whatever the score mode."""
        return self.map_names
