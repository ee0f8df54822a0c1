"""Measure the coverage of the 95 % intervals: how often do they contain the value on all images.

Run: python tests/calibration/intervals.py MODEL [--samples 64] [--input-shape 3,32,32]

A population of built-in photographs is audited once; sets of images are drawn from it again and again,
and the interval of each set is compared with the error on the whole population.
"""

import argparse

import numpy as np
import torch

from eqaudit.data import open_images
from eqaudit.engine.base import as_tensor
from eqaudit.engine.measure import measure_batch
from eqaudit.engine.probe import make_setting
from eqaudit.engine.references import Batch
from eqaudit.engine.shapes import Choice
from eqaudit.loader import load_model
from eqaudit.metrics import PairNorms
from eqaudit.parsing import parse_integers, parse_model
from eqaudit.plan import AuditPlan, FileModel, InputOptions
from eqaudit.statistics import bootstrap_indices, percentile_interval, ratio_interval, root_ratio

SETS = 500
SEEDS = 6


def population(model: str, shape: tuple[int, int, int]) -> tuple[list[str], PairNorms]:
    """Return the elements of D4 and, for each, the norms of the output on all images of six seeds."""
    loaded = load_model(parse_model(model, []), torch.device("cpu"))
    arrays = [
        batch.images
        for seed in range(SEEDS)
        for batch in open_images(InputOptions(samples=0, seed=seed)).prepare(shape).batches(64)
    ]
    images = as_tensor(np.concatenate(arrays))
    plan = AuditPlan(FileModel(model), InputOptions(batch_size=64), layers=("none",))
    setting = make_setting(loaded, Choice(shape, "", None), plan)
    names = tuple(str(number) for number in range(len(images)))
    unit = measure_batch(loaded, Batch(images, names, tuple(range(len(names)))), setting)
    return [pose.name for pose in setting.poses], unit.values.norms[setting.gating]


def coverage(norms: PairNorms, samples: int, *, studentised: bool) -> float:
    """Return the share of sets whose interval contains the error of the population."""
    true = float(root_ratio(norms.difference.sum(), norms.power.sum()))
    generator = np.random.default_rng(1)
    hits = 0
    for number in range(SETS):
        drawn = generator.integers(0, len(norms.power), samples)
        difference, power = norms.difference[drawn], norms.power[drawn]
        if studentised:
            interval = ratio_interval(difference, power, number)
        else:
            resamples = np.concatenate(list(bootstrap_indices(number, samples)))
            sums = (values[resamples].sum(axis=1) for values in (difference, power))
            interval = percentile_interval(root_ratio(*sums))
        hits += interval is not None and interval[0] <= true <= interval[1]
    return hits / SETS


def main() -> None:
    """Print the coverage by element, for the interval in use and for the percentile interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--input-shape", default="3,32,32")
    options = parser.parse_args()
    channels, height, width = parse_integers("--input-shape", options.input_shape, 3)
    elements, by_element = population(options.model, (channels, height, width))
    print(f"{options.model}, {SETS} sets of {options.samples} of {by_element.power.shape[1]} images")
    print("element      in use  percentile")
    for place, element in enumerate(elements):
        norms = by_element.at(place)
        used, percentile = (coverage(norms, options.samples, studentised=flag) for flag in (True, False))
        print(f"{element:10} {used:8.3f} {percentile:11.3f}")


if __name__ == "__main__":
    main()
