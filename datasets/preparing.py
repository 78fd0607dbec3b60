"""Building a dataset once, whoever comes first."""

import contextlib
import io

import tensorflow_datasets as tfds


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Build the dataset unless it is cached; afterwards `builder.as_data_source` works.

    Shows TFDS's progress bars, but not what it prints: it speaks of downloads of unknown size.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            builder.download_and_prepare()
        except OSError:
            if not builder.data_path.exists():
                raise
            builder.info.read_from_directory(builder.data_dir)  # another process built it meanwhile
