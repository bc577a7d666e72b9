"""Prepares Shopping100k for TFDS from its images and the split files of ADDE, without TensorFlow.

    gradrev-prepare-shopping100k --manual_dir=IMAGES_AND_SPLITS --data_dir=FOLDER

Then: gradrev-train --config=tfds:shopping100k --config.data.tfds_dir=FOLDER --workdir=runs/mine

The command ``tfds build`` of TFDS does the same, but needs TensorFlow.
"""

import pathlib

from absl import flags

from gradrev_commands import cli
from gradrev_jax.data.formats.tfds.builders import import_tfds
from gradrev_jax.errors import naming


def prepare_shopping100k(
    manual_dir: pathlib.Path, data_dir: str | None = None, *, drop_contradictions: bool = False
) -> pathlib.Path:
    """Writes the data set in the layout of TFDS, as ``array_record``; one that is there already stays.

    Args:
      manual_dir: the folder of the images, with the split files of ADDE in it.
      data_dir: the folder in which TFDS prepares data sets; None: the default of TFDS.
      drop_contradictions: whether contradictions are left out, see ``read_adde``.

    Returns:
      The folder of the data set.

    Raises:
      DataError: the split files or the images cannot be used; nothing is written then. The message names the
        flags of this command.
      ConfigError: TFDS is not installed.
    """
    tfds = import_tfds()
    from gradrev_jax.data.formats.tfds.shopping100k import Shopping100k, read_manual

    builder = Shopping100k(
        data_dir=data_dir, file_format="array_record", drop_contradictions=drop_contradictions
    )
    if not builder.info.splits:
        # TFDS creates folders before it asks for the files, so faults in them have to be found before.
        with naming("--{}", {"root": "--manual_dir", "splits": "--manual_dir"}):
            read_manual(manual_dir, drop_contradictions=drop_contradictions)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir.absolute()))
    )
    return pathlib.Path(builder.data_path)


def main() -> None:
    """Prepares the data set that the flags describe."""
    manual_dir = cli.define_folder(
        "manual_dir", "Folder of the images, with the split files of ADDE in it.", required=True
    )
    data_dir = cli.define_folder(
        "data_dir", "Folder of the data sets of TFDS; unset: the default of TFDS.", written=True
    )
    drop = flags.DEFINE_boolean(
        "drop_contradictions", False, "Whether rows that contradict the labels are left out."
    )

    def work() -> None:
        folder = prepare_shopping100k(
            manual_dir.value,
            None if data_dir.value is None else str(data_dir.value),
            drop_contradictions=drop.value,
        )
        print(f"{folder}: prepared")

    cli.run(work, description=__doc__)


if __name__ == "__main__":
    main()
