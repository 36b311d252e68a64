"""Values that are legal and hardly meant: another unit, a percentage. What they would do is told as a warning."""

from collections.abc import Iterator

from al_driver.errors import Problem

LONG_TIMESTEP = 0.01  # ps
LIKELY_SCALE = (0.7, 1.5)


def check_timestep(timestep: float, key: str) -> Iterator[Problem]:
    """Yield a warning of a step, ps, that no atom's vibration would survive."""
    if timestep > LONG_TIMESTEP:
        yield Problem(f"{timestep:g} ps is a long step; 0.001 is common", key, severity="warning")


def check_scale(factor: float, key: str) -> Iterator[Problem]:
    """Yield a warning of a factor of the cell vectors that makes another crystal."""
    if not LIKELY_SCALE[0] <= factor <= LIKELY_SCALE[1]:
        yield Problem(
            f"{factor:g} makes the volume {factor**3:.3g} times as large; factors of the cell vectors are near 1, "
            "e.g. [0.96, 1.0, 1.04]",
            key,
            severity="warning",
        )
