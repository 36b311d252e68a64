"""Values that no type forbids and nobody means: another unit, a percentage. What they would do is told."""

from collections.abc import Iterator

from al_driver.errors import Problem

LONG_TIMESTEP = 0.01  # ps
FS_PER_PS = 1000
LARGE_MOVE = 0.5  # Å: a fifth of a bond
LARGE_DEVIATION = 10.0  # eV/Å: models that differ by so much say nothing of the force
LIKELY_SCALE = (0.7, 1.5)
SENSIBLE_SCALE = (0.5, 2.0)
PERCENTS = (50.0, 200.0)
BAR_PER_GPA = 10_000
WEAK_PRESSURE = 500.0  # bar: a pressure in GPa is such a number, and no solid feels so many bar
ATMOSPHERE = (0.9, 1.1)  # bar: so weak, and meant all the same
LARGE_PRESSURE = 5e6  # bar, 500 GPa: beyond the centre of the Earth


def check_timestep(timestep: float, key: str) -> Iterator[Problem]:
    """Yield a warning of a step, ps, that no atom's vibration would survive."""
    if timestep > LONG_TIMESTEP:
        fs = f"; {timestep:g} fs are {timestep / FS_PER_PS:g} ps"
        yield Problem(f"{timestep:g} ps is a long step; 0.001 is common{fs}", key, severity="warning")


def check_move(distance: float | None, key: str) -> Iterator[Problem]:
    """Yield a warning of displacements, Å, that no atom makes about its place in a solid."""
    if distance is not None and distance > LARGE_MOVE:
        words = f"{distance:g} Å takes atoms as far as their neighbours; 0.05 is common"
        yield Problem(words, key, severity="warning")


def check_deviation(lower: float | None, key: str) -> Iterator[Problem]:
    """Yield a warning of a threshold, eV/Å, that no disagreement of models on forces reaches before they fail."""
    if lower is not None and lower > LARGE_DEVIATION:
        words = f"{lower:g} eV/Å is beyond any force that models can be asked for; {lower:g} meV/Å are {lower / 1000:g}"
        yield Problem(words, key, severity="warning")


def check_scale(factor: float, key: str) -> Iterator[Problem]:
    """Yield an error of what is no factor of the cell vectors, e.g. a percentage; a warning of another crystal."""
    if not SENSIBLE_SCALE[0] <= factor <= SENSIBLE_SCALE[1]:
        is_percent = PERCENTS[0] <= factor <= PERCENTS[1]
        percent = f"; {factor:g} % is {factor / 100:g}" if is_percent else ", near 1, e.g. [0.96, 1.0, 1.04]"
        yield Problem(f"{factor:g} is a factor of the cell vectors{percent}", key)
    elif not LIKELY_SCALE[0] <= factor <= LIKELY_SCALE[1]:
        yield Problem(
            f"{factor:g} makes the volume {factor**3:.3g} times as large; factors of the cell vectors are near 1, "
            "e.g. [0.96, 1.0, 1.04]",
            key,
            severity="warning",
        )


def check_pressure(pressure: float, key: str) -> Iterator[Problem]:
    """Yield a warning of a pressure, bar, that looks like one in GPa, or in Pa."""
    size = abs(pressure)
    is_weak = 0 < size <= WEAK_PRESSURE and not ATMOSPHERE[0] <= size <= ATMOSPHERE[1]
    if is_weak:
        told = f"; no solid feels that, and {pressure:g} GPa are {pressure * BAR_PER_GPA:g} bar"
    elif size > LARGE_PRESSURE:
        told = f"; {pressure:g} Pa are {pressure / 1e5:g} bar"
    else:
        return
    yield Problem(f"{pressure:g} bar are {pressure / BAR_PER_GPA:g} GPa{told}", key, severity="warning")
