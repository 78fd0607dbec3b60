"""Images, masks and saliency maps as files and arrays, and what distorts them."""

from menet_jax.images.distortions import Clean, Distortion, Jpeg, Noise, add_noise, compress_jpeg
from menet_jax.images.files import (
    Mask,
    MaskFile,
    ResizedMask,
    ResizedRgb,
    Rgb,
    fit_mask,
    is_image,
    is_plain,
    mask_notes,
    png,
    read_image,
    read_mask,
    read_mask_file,
    resize_image,
    resize_mask,
)
from menet_jax.images.maps import full_size, quantise, read_map, resize_gray_map, resize_map
from menet_jax.images.opening import UnreadableImageError, read_file

__all__ = [
    "Clean",
    "Distortion",
    "Jpeg",
    "Mask",
    "MaskFile",
    "Noise",
    "ResizedMask",
    "ResizedRgb",
    "Rgb",
    "UnreadableImageError",
    "add_noise",
    "compress_jpeg",
    "fit_mask",
    "full_size",
    "is_image",
    "is_plain",
    "mask_notes",
    "png",
    "quantise",
    "read_file",
    "read_image",
    "read_map",
    "read_mask",
    "read_mask_file",
    "resize_gray_map",
    "resize_image",
    "resize_map",
    "resize_mask",
]
