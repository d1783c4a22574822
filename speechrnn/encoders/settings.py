"""What the settings of every encoder are checked for."""

from __future__ import annotations

from speechrnn.errors import ConfigError


class Settings:
    """Checks for the dataclass that an encoder is; each names the setting that it refuses."""

    def require_at_least_one(self, *names: str) -> None:
        """Refuse settings below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name}: got {getattr(self, name)}, expected at least 1")

    def require_odd(self, *names: str) -> None:
        """Refuse even settings."""
        for name in names:
            if getattr(self, name) % 2 == 0:
                raise ConfigError(
                    f"encoder.{name}: got {getattr(self, name)}, expected an odd number"
                )

    def require_fractions(self, *names: str) -> None:
        """Refuse settings that are no part of a whole; all of it is none either."""
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"encoder.{name}: got {getattr(self, name)}, expected 0 <= {name} < 1"
                )
