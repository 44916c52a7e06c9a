"""Settings of photos, classes and augmentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from uhd.manifest import ResizeMode
from uhd.train.config.fields import Group, Numbers, count, option, path, switch, unit, weight


def _plain_mode(value: Any) -> Any:
    """The reference writes modes in any case and with either dash."""
    return value.lower().replace("-", "_") if isinstance(value, str) else value


def _part(default: float, text: str) -> Any:
    return Field(default=default, description=text, gt=0, le=1, allow_inf_nan=False)


Mode = Annotated[ResizeMode, BeforeValidator(_plain_mode)]


class Data(Group):
    """Data"""

    images: str | None = path("training photos: folder or list file")
    val: str | None = path("validation photos: folder or list file")
    image_dir: str | None = path("one folder of photos, which is split; with lists: where their entries are looked for")
    train_list: str | None = path("list file of training photos (with val_list)")
    val_list: str | None = path("list file of validation photos (with train_list)")
    train_split: float = _part(0.8, "part of image_dir to train on")
    val_split: float = _part(0.2, "part of image_dir to evaluate on")
    strict_data: bool = switch("stop at the first broken photo or label (else: leave it out and tell)")
    unlabelled_as_negative: bool = switch("a photo without a label file shows no object (else: an error)")
    classes: Numbers = option("0", "comma-separated class ids of the label files to detect")
    multi_label_mode: Literal["none", "single", "separate"] = option(
        "none", "an object has one class; several of one branch; or one, and attributes in a branch of their own"
    )
    multi_label_det_classes: Numbers | None = option(None, "those of classes that are objects; none: the others")
    multi_label_attr_classes: Numbers | None = option(None, "those of classes that are attributes; none: the others")
    img_size: int | str = option(64, "height x width of the network input, or one number; multiples of 8")
    resize_mode: Mode = option("torch_bilinear", "how a photo becomes the network input")
    cache_dir: str | None = path("where decoded photos are kept")
    num_workers: int = count(0, "accepted, without effect: photos are decoded once, on the threads there are", 0, 1024)


class Augmentation(Group):
    """Augmentation"""

    aug_config: str | None = path("YAML file of augmentations; none: those of this section")
    val_aug_config: str | None = path("YAML file applied to validation photos, such as a centred crop")
    crop_prob: float = unit(0.9, "share of photos that are cropped or zoomed out")
    crop_min: float = Field(default=0.45, description="smallest crop, as a fraction of the side", gt=0, le=1)
    crop_max: float = Field(default=1.15, description="largest crop; above 1 adds a grey margin", ge=1, le=4)
    crop_aspect: float = weight(0.25, "aspect of a crop varies by e to the plus or minus this")
    mild_epochs: int = count(0, "last epochs, in which augmentation varies half as much", 0)
    min_visible: float = unit(0.3, "least visible part of a box for it to stay a target")
    flip_prob: float = unit(0.5, "share of photos mirrored")
    brightness: float = unit(0.08, "largest shift of all channels, of full scale")
    contrast: float = unit(0.2, "largest relative change of contrast")
    saturation: float = unit(0.3, "largest relative change of saturation")
    hue: float = unit(0.02, "largest turn of hue, of a full circle")
    channel_gain: float = unit(0.05, "largest relative change of each channel's gain (white balance)")
    grey_prob: float = unit(0.03, "share of photos without colour")
    single_chroma: float = unit(0.25, "share of photos with one pixel's chroma instead of a pair's mean (yuv422)")
