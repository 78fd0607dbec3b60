"""Building a dataset once, whoever comes first."""

import contextlib
import io
from typing import Any

import tensorflow_datasets as tfds


def prepare(builder: tfds.core.DatasetBuilder, downloads: tfds.download.DownloadConfig | None = None) -> None:
    """Build the dataset unless it is cached; afterwards `builder.as_data_source` works.

    `downloads` says where the user has put what cannot be downloaded from here.

    Shows TFDS's progress bars, but not what it prints: it speaks of downloads of unknown size.
    """
    download_and_prepare: Any = builder.download_and_prepare  # its signature, made by a decorator, admits no argument
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            download_and_prepare(download_config=downloads)
        except OSError:
            if not builder.data_path.exists():
                raise
            builder.info.read_from_directory(builder.data_dir)  # another process built it meanwhile
