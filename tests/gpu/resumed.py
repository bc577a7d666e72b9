"""Trains a tiny run in one go and another in two, and tells which parameters differ; see test_devices.py."""

import json
import pathlib
import sys

import jax
import numpy as np

from configs import garments
from gradrev_jax.training.run import train


def main(directory):
    config = garments.get_config()
    config.data.cache_dir = str(directory / "cache")
    config.data.count, config.data.test_fraction = 60, 0.4
    config.model.width, config.model.feature_dim = 1 / 16, 8
    config.train.batch_size, config.train.epochs, config.train.log_every = 8, 2, 2
    config.protocol.ks, config.protocol.batch_size = (1, 5), 10
    whole = train(config, directory / "whole", progress=False)
    config.train.max_steps = 3
    part = train(config, directory / "parts", progress=False)
    jax.clear_caches()
    config.train.max_steps = None
    resumed = train(config, directory / "parts", progress=False)
    pairs = zip(
        jax.tree_util.tree_leaves_with_path((whole.params, whole.opt_state)),
        jax.tree.leaves((resumed.params, resumed.opt_state)),
        strict=True,
    )
    same = {jax.tree_util.keystr(path): np.array_equal(expected, found) for (path, expected), found in pairs}
    return {
        "steps": [int(state.step) for state in (whole, part, resumed)],
        "leaves": len(same),
        "differing": [path for path, is_same in same.items() if not is_same],
    }


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]))))
