"""Writes a catalogue as an ADDE split directory, with generated queries and triplets.

    gradrev-generate-splits --config=catalogue --config.data.root=FOLDER --out=SPLITS

The config gives the number and the kind: seed, protocol.{num_references,kinds,num_changes} for the queries
and memory.{triplets,kinds,num_changes} for the triplets. To train on the directory, set
--config.data.format=adde and --config.data.splits=SPLITS.
"""

from gradrev_commands import cli
from gradrev_jax.data.catalogue import TEST, TRAIN
from gradrev_jax.data.formats.adde.writer import write_adde
from gradrev_jax.data.images.files import ImageFiles
from gradrev_jax.data.vectors.source import EmbeddedImages
from gradrev_jax.errors import ConfigError
from gradrev_jax.runs import builders
from gradrev_jax.runs.config_check import check
from gradrev_jax.runs.protocol import build_protocol, queries_of


def main() -> None:
    """Generates queries and triplets for the catalogue of a config, and writes them with its labels."""
    read_config = cli.define_config()
    out = cli.define_folder("out", "Folder to write; must not exist.", required=True, written=True)

    def work() -> None:
        config = read_config()
        config.train.validation_fraction = (
            0.0  # the format has no validation part; one is held out on reading
        )
        check(config)
        catalogue = builders.open_catalogue(config)
        # Of vectors that came in a file, the images have names all the same.
        images = catalogue.images
        if not isinstance(images.images if isinstance(images, EmbeddedImages) else images, ImageFiles):
            raise ConfigError(
                f"data.format = {config.data.format!r}: these images lie in no files of their own, which the "
                "lists of a split directory name; give a table of image files"
            )
        queries = queries_of(catalogue, TEST, build_protocol(config), builders.data_seed(config))
        triplets = builders.triplets_of(catalogue, config).renumber(catalogue.parts[TRAIN])
        write_adde(out.value, catalogue, queries, triplets)
        print(f"{out.value}: {len(queries):,} queries, {len(triplets):,} triplets")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
