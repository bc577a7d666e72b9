"""Have TFDS prepare Shopping100k from its images and ADDE's split files; without TensorFlow.

    python -m gradrev_jax.data.prepare_shopping100k --manual_dir=IMAGES_AND_SPLITS --data_dir=FOLDER

Then: python train.py --config=configs/tfds.py:shopping100k --config.data.tfds_dir=FOLDER --workdir=runs/mine

TFDS's own command for the same, ``tfds build``, needs TensorFlow.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from gradrev_jax.data.tfds_builders import installed
from gradrev_jax.errors import UserError
from gradrev_jax.paths import expand
from gradrev_jax.terminal import safe_output

# Fields of a run's config that messages name -> flags of this command.
FLAGS = {
    "data.drop_contradictions=true": "--drop_contradictions",
    "data.root": "--manual_dir",
    "data.splits": "--manual_dir",
}


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
    tfds = installed()
    from gradrev_jax.data.shopping100k import Shopping100k, read_manual

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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manual_dir", required=True, help="images, with ADDE's split files beside them")
    parser.add_argument("--data_dir", help="folder of TFDS's data sets; its own default if not given")
    parser.add_argument(
        "--drop_contradictions", action="store_true", help="leave out rows at odds with the labels"
    )
    flags = parser.parse_args(arguments)
    with safe_output():
        try:
            folder = prepare_shopping100k(
                expand(flags.manual_dir, "--manual_dir"),
                None if flags.data_dir is None else str(expand(flags.data_dir, "--data_dir")),
                drop_contradictions=flags.drop_contradictions,
            )
        except KeyboardInterrupt:
            sys.exit("interrupted; give the same command again to start afresh")
        except UserError as error:
            message = str(error)
            for field, flag in FLAGS.items():
                message = message.replace(field, flag)
            sys.exit(f"error: {message}")
        print(f"{folder}: prepared")


if __name__ == "__main__":
    main()
