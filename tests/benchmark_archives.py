"""Small benchmarks in the layouts of the published archives, irregularities included, for tests."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

Files = dict[str, bytes]
STRAY = ("__MACOSX/{}/._x.jpg", "{}/.DS_Store", "{}/Thumbs.db")


def picture(index: int) -> Image.Image:
    """A blurry picture with sharp noise, unlike any other's, 72 by 54."""
    generator = np.random.default_rng(index)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), np.uint8)).resize((72, 54), Image.Resampling.BICUBIC)
    noise = generator.normal(0, 6, (54, 72, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def mask(index: int) -> np.ndarray:
    """Its mask."""
    salient = np.zeros((54, 72), bool)
    salient[10 : 20 + index % 20, 5 + index % 30 : 40 + index % 30] = True
    return salient


def encode(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(index: int) -> bytes:
    return encode(picture(index), "JPEG", quality=90)


def recompressed(index: int) -> bytes:
    """The same picture as somebody else would keep it: smaller, smoother, and more compressed."""
    small = picture(index).filter(ImageFilter.GaussianBlur(0.6)).resize((60, 45), Image.Resampling.BICUBIC)
    return encode(small, "JPEG", quality=40)


def png(index: int) -> bytes:
    return encode(picture(index), "PNG")


def gray_mask(index: int) -> bytes:
    return encode(Image.fromarray(mask(index).astype(np.uint8) * np.uint8(255)), "PNG")


def soft_mask(index: int) -> bytes:
    """With gray edges, half of which is at the mask's own edge."""
    salient = mask(index)
    soft = salient * np.uint8(255)
    soft[:, 1:][salient[:, 1:] & ~salient[:, :-1]] = 130
    soft[:, :-1][~salient[:, :-1] & salient[:, 1:]] = 120
    return encode(Image.fromarray(soft), "PNG")


def graded_mask(index: int) -> bytes:
    """A mean over twelve observers, of whom seven chose the object, of mask 3 five, and two all of the image."""
    grades = np.where(mask(index), 7 if index != 3 else 5, 2)
    return encode(Image.fromarray(np.rint(grades / 12 * 255).astype(np.uint8)), "PNG")


def rgb_mask(index: int) -> bytes:
    return encode(Image.fromarray(mask(index) * np.uint8(255)).convert("RGB"), "PNG")


def one_bit_mask(index: int) -> bytes:
    return encode(Image.fromarray(mask(index)), "PNG")


def bmp_mask(index: int) -> bytes:
    return encode(Image.fromarray(mask(index).astype(np.uint8) * np.uint8(255)), "BMP")


def files(pattern: str, make: Callable[[int], bytes], numbers: Iterable[int]) -> Files:
    """`make(n)` under the pattern's name for each number n."""
    return {pattern.format(number): make(number) for number in numbers}


def write(root: Path, contents: Files) -> None:
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def zipped(contents: Files, stray_in: str = "") -> bytes:
    """A zip archive, with what an operating system leaves behind in one of its folders."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        for name in STRAY if stray_in else ():
            archive.writestr(name.format(stray_in), b"stray")
    return file.getvalue()


def tarred(contents: Files) -> bytes:
    """A compressed tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def msra10k(numbers: Iterable[int], folder: str = "MSRA10K_Imgs_GT/Imgs") -> Files:
    numbers = list(numbers)
    return files(folder + "/{}.jpg", jpeg, numbers) | files(folder + "/{}.png", gray_mask, numbers)


def hku_is(numbers: Iterable[int]) -> Files:
    numbers = list(numbers)
    return files("HKU-IS/imgs/{:04d}.png", png, numbers) | files("HKU-IS/gt/{:04d}.png", gray_mask, numbers)


def msra1k(numbers: Iterable[int]) -> Files:
    numbers = list(numbers)
    return files("Image/0_{}.jpg", recompressed, numbers) | files("binarymasks/0_{}.bmp", bmp_mask, numbers)


def ecssd(numbers: Iterable[int]) -> Files:
    """Two archives, and upper case in one."""
    numbers = list(numbers)
    return {
        "images.zip": zipped(files("images/{:04d}.JPG", jpeg, numbers), "images"),
        "ground_truth_mask.zip": zipped(files("ground_truth_mask/{:04d}.png", gray_mask, numbers), "ground_truth_mask"),
    }


def dut_omron(numbers: Iterable[int], twice: bool = True) -> Files:
    """Two archives, the second a zip in a zip, or a zip that is only called so."""
    numbers = list(numbers)
    inner = zipped(files("pixelwiseGT-new-PNG/im{:03d}.png", gray_mask, numbers), "pixelwiseGT-new-PNG")
    outer = zipped({"DUT-OMRON-gt-pixelwise.zip": inner}) if twice else inner
    images = files("DUT-OMRON-image/im{:03d}.jpg", jpeg, numbers)
    return {"DUT-OMRON-image.zip": zipped(images, "DUT-OMRON-image"), "DUT-OMRON-gt-pixelwise.zip.zip": outer}


def duts(train: Iterable[int], test: Iterable[int]) -> dict[str, Files]:
    """The contents of the two archives by their names; masks with gray edges, and one in colour."""
    parts: dict[str, Files] = {}
    for part, numbers in (("DUTS-TR", list(train)), ("DUTS-TE", list(test))):
        pattern = f"{part}/{part}-{{}}/sun_{{{{:04d}}}}.{{}}"
        masks = files(pattern.format("Mask", "png"), soft_mask, numbers[1:])
        masks |= files(pattern.format("Mask", "png"), rgb_mask, numbers[:1])
        parts[part] = files(pattern.format("Image", "jpg"), jpeg, numbers) | masks
    return parts


def pascal_s(numbers: Iterable[int]) -> Files:
    """The contents of the archive, with another dataset and fixations in it."""
    numbers = list(numbers)
    return {
        **files("datasets/imgs/pascal/{}.jpg", jpeg, numbers),
        **files("datasets/masks/pascal/{}.png", graded_mask, numbers),
        **files("datasets/imgs/ft/{}.jpg", jpeg, [1, 900]),
        **files("datasets/masks/ft/{}.png", gray_mask, [1, 900]),
        **files("datasets/segments/pascal/{}.mat", lambda _: b"MATLAB", numbers),
        "datasets/fixations/pascalFix.mat": b"MATLAB",
    }


def sod(numbers: Iterable[int]) -> Files:
    """The images in Berkeley's archive, with its lists; 1-bit masks."""
    numbers = list(numbers)
    half = len(numbers) // 2
    images = {
        "BSDS300/iids_train.txt": "\n".join(map(str, numbers[:half])).encode(),
        "BSDS300/iids_test.txt": "\n".join(map(str, numbers[half:])).encode(),
        **files("BSDS300/images/train/{}.jpg", jpeg, numbers[:half]),
        **files("BSDS300/images/test/{}.jpg", jpeg, numbers[half:]),
    }
    return {"BSDS300-images.tgz": tarred(images), **files("masks/{}.png", one_bit_mask, numbers)}
