"""What a worker needs to know before it can transcribe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speechrnn.options import Guidance

if TYPE_CHECKING:
    from speechrnn.transcribe.work import Transcriber


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know: the model, and what guides it."""

    model: str
    guidance: Guidance = field(default_factory=Guidance)
    threshold: float | None = None

    def transcriber(self) -> Transcriber:
        """Open the model.

        Raises:
            ModelError: It cannot be opened.
            ConfigError: The guidance is not for this model.
        """
        from speechrnn.guidance import guide
        from speechrnn.recognize import load_model
        from speechrnn.transcribe.work import Transcriber

        model = load_model(self.model)
        guide(model, self.guidance)
        if self.threshold is not None:
            model.threshold = self.threshold
        return Transcriber(model, slots=self.guidance.grammar is not None)
