"""Have TFDS prepare Shopping100k from its images and ADDE's split files; without TensorFlow.

    gradrev-prepare-shopping100k --manual_dir=IMAGES_AND_SPLITS --data_dir=FOLDER

Then: python train.py --config=configs/tfds.py:shopping100k --config.data.tfds_dir=FOLDER --workdir=runs/mine

TFDS's own command for the same, ``tfds build``, needs TensorFlow.
"""

import pathlib

from absl import flags

from gradrev_commands import cli
from gradrev_jax.data.formats.tfds.builders import import_tfds


def prepare_shopping100k(
    manual_dir: pathlib.Path, data_dir: str | None = None, *, drop_contradictions: bool = False
) -> pathlib.Path:
    """Write the data set in TFDS's layout, as ``array_record``; where it is there already, it stays.

    Args:
      manual_dir: folder of the images, with ADDE's split files in it.
      data_dir: folder that TFDS prepares data sets in; None: TFDS's own default.
      drop_contradictions: as ``adde.read_adde`` has it.

    Returns:
      The data set's own folder.

    Raises:
      DataError: the split files or the images cannot be used; nothing is written then.
      ConfigError: TFDS is not installed.
    """
    tfds = import_tfds()
    from gradrev_jax.data.formats.tfds.shopping100k import Shopping100k, read_manual

    builder = Shopping100k(
        data_dir=data_dir, file_format="array_record", drop_contradictions=drop_contradictions
    )
    if not builder.info.splits:
        # TFDS creates folders before it asks for the files: a fault in them has to be found now.
        read_manual(manual_dir, drop_contradictions=drop_contradictions)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir.absolute()))
    )
    return pathlib.Path(builder.data_path)


def main() -> None:
    """Prepares the data set, as the command line says."""
    manual_dir = cli.define_folder(
        "manual_dir", "Images, with ADDE's split files beside them.", required=True
    )
    data_dir = cli.define_folder(
        "data_dir", "Folder of TFDS's data sets; unset: its own default.", written=True
    )
    drop = flags.DEFINE_boolean(
        "drop_contradictions", False, "Whether rows at odds with the labels are left out."
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
