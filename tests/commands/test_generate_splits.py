"""The lists that are written of a catalogue whose images came as vectors."""

import numpy as np

from gradrev_jax.data.formats.adde.reader import read_adde


def test_images_that_are_known_by_vectors_are_listed_by_their_names(call, tmp_path):
    """They were said to lie in no files of their own, though their table names files."""
    names = [f"images/{number:02d}.png" for number in range(24)]
    rows = [
        f"{name},{'train' if number < 12 else 'test'},{'ab'[number % 2]},{'xyz'[number % 3]}"
        for number, name in enumerate(names)
    ]
    (tmp_path / "attributes.csv").write_text("\n".join(["image,split,color,size", *rows]) + "\n")
    np.savez(tmp_path / "vectors.npz", names=names, embeddings=np.eye(24, dtype=np.float32))
    ended = call(
        "generate_splits",
        "--config=catalogue:embeddings",
        f"--config.data.root={tmp_path}",
        f"--config.data.embeddings={tmp_path / 'vectors.npz'}",
        "--config.memory.triplets=10",
        f"--out={tmp_path / 'splits'}",
    )
    assert ended.status == 0, ended.err
    assert ended.out.endswith(" queries, 10 triplets\n")
    read = read_adde(tmp_path / "splits", tmp_path, files_required=False)
    assert [read.images.name(row) for row in range(24)] == names
