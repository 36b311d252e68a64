"""Does a bound on force errors hold as often as it promises: in distribution, and where it cannot?

Models learn from dynamics up to 600 K and are calibrated (`al_driver.query.calibration`) on frames of other
trajectories at 300 and 600 K, as audits of three iterations. The bounds are then tried on frames of yet other
trajectories at these temperatures, which is what was promised; and at 1200 and 2500 K, which is not: there
frames whose score is above all calibrated ones are "outside", and have no bound. Shown too is how often the factor
alone would have held.

Run: ``OMP_NUM_THREADS=1 python benchmarks/coverage.py``; some minutes on an idle core. See `scored_frames.py`.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from scored_frames import SYSTEMS, TEMPERATURES, TRAINED_AT, Scored, score_all

from al_driver.query.calibration import BAND, Audit, Calibration

COVERAGE, TARGET = 0.9, 0.1
KINDS = ("committee", "kpu")


def audits_of(scored: dict[int, Scored], kind: str) -> list[Audit]:
    """Return frames as audits of three iterations, each with a third of every temperature's."""
    found = []
    for temperature, frames in scored.items():
        for number, (score, error) in enumerate(zip(frames.scores[kind], frames.error_of(kind), strict=True)):
            found.append(
                Audit(
                    iteration=number % 3, structure="crystal", task="md", step=number, temperature=temperature,
                    score=float(score), errors={"Si": float(error)},
                )
            )  # fmt: skip
    return sorted(found, key=lambda audit: audit.iteration)


def report(calibration: Calibration, name: str, audits: list[Audit]) -> None:
    """Print one line: how often bounds held where there were any, and how many frames are outside."""
    errors = np.array([audit.error({"Si": TARGET}) for audit in audits])
    bounds = np.array([calibration.bound(audit) or math.nan for audit in audits])
    factors = [calibration.factor(audit.structure, (audit.temperature,) * 2) for audit in audits]
    would = np.array([(f.a if f else math.nan) * (audit.score + calibration.beta)
                      for f, audit in zip(factors, audits, strict=True)])  # fmt: skip
    inside = np.isfinite(bounds)
    held = f"{np.mean(errors[inside] <= bounds[inside]):10.1%}" if inside.any() else " " * 9 + "-"
    print(
        f"  {name:12} {len(audits):6d} {np.median(errors):9.3f} {held} {int(inside.sum()):7d} "
        f"{1 - inside.mean():9.1%} {np.mean(errors <= would):13.1%} {np.mean(errors <= bounds):10.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="Si")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=160, help="at each temperature")
    parser.add_argument("--folder", type=Path, help="keep everything here, and take what is there")
    parser.add_argument("--only-kpu", action="store_true", help="train no committee")
    asked = parser.parse_args()
    kinds = KINDS[1:] if asked.only_kpu else KINDS
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).absolute()
        for seed in range(1, asked.seeds + 1):
            known = score_all(folder, asked.system, seed, asked.frames, "calibrate", TRAINED_AT, names=kinds)
            tried = score_all(folder, asked.system, seed, asked.frames, "test", names=kinds)
            for kind in kinds:
                calibration = Calibration.fit(audits_of(known, kind), {"Si": TARGET}, COVERAGE)
                groups = {f"{g.band * BAND:g} K": g.n for g in calibration.groups}
                print(f"{asked.system}, seed {seed}, {kind}: {COVERAGE:.0%} promised; audits that set it: {groups}")
                print("                frames  med. err  bound held  inside   outside  factor alone  held of all")
                inner = [audit for t in TRAINED_AT for audit in audits_of({t: tried[t]}, kind)]
                report(calibration, "all in dist.", inner)
                for temperature in TEMPERATURES:
                    report(calibration, f"{temperature} K", audits_of({temperature: tried[temperature]}, kind))


if __name__ == "__main__":
    main()
