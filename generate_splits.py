"""Write a catalogue as an ADDE split directory, with generated queries and triplets.

    python generate_splits.py --config=configs/catalogue.py --config.data.root=FOLDER --out=SPLITS

How many, and which, the config says: seed, protocol.{num_references,kinds,num_changes} for the queries and
memory.{triplets,kinds,num_changes} for the triplets. Train on it with --config.data.format=adde and
--config.data.splits=SPLITS.
"""

from gradrev_jax import cli, settings
from gradrev_jax.config_check import check
from gradrev_jax.data.adde_writer import write_adde
from gradrev_jax.data.catalogue import TEST, TRAIN

_CONFIG = cli.define_config()
_OUT = cli.define_folder("out", "Folder to write; must not exist.", required=True, written=True)


def main() -> None:
    """Generate and write."""
    config, out = _CONFIG(), _OUT.value
    config.train.validation_fraction = 0.0  # a format without a validation part: it is held out when read
    check(config)
    catalogue = settings.open_catalogue(config)
    queries = settings.queries_of(catalogue, TEST, config)
    triplets = settings.triplets_of(catalogue, config).of_part(catalogue.parts[TRAIN])
    write_adde(out, catalogue, queries, triplets)
    print(f"{out}: {len(queries):,} queries, {len(triplets):,} triplets")


if __name__ == "__main__":
    cli.run(main)
