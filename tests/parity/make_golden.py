"""Writes golden.npz with the PyTorch reference, in seconds.

    pip install -c constraints.txt -e '.[test,torch]'
    python -m tests.parity.make_golden

Run it when a case or the reference has changed. The file holds the weights, images and queries as well, and
the versions it was made with, as ``versions/torch``.
"""

import faiss
import numpy as np
import torch

from tests.parity import cases, golden, reference


def main() -> None:
    """Compute all golden cases and write the file."""
    torch.use_deterministic_algorithms(True)
    tree = {
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "faiss": faiss.__version__},
        "weights": {},
        "images": {},
    }
    for case in cases.GOLDEN:
        weights = cases.make_weights(reference.shapes(case))
        batch = cases.make_batch(case)
        tree["weights"] |= weights
        tree["images"][str(case.pixels)] = batch.images
        tree |= {"labels": batch.labels, "indicators": batch.indicators}
        tree[case.name] = reference.run(case, weights, batch)._asdict()
    queries = cases.make_retrieval()
    neighbors = reference.search(queries)
    metrics = reference.metrics(queries, neighbors, cases.SIZES)
    tree["retrieval"] = {"queries": queries._asdict(), "neighbors": neighbors, "metrics": metrics}
    np.savez_compressed(golden.PATH, **dict(golden.named(tree)))
    print(f"{golden.PATH}: {golden.PATH.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
