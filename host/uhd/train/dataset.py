"""From a folder or list of labelled photos to a photo store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from uhd.data.cache import PhotoCache
from uhd.data.problems import Problem, refuse_if_mostly_broken
from uhd.data.yolo import Sample, load_split
from uhd.train.photos import PhotoStore


def open_photos(
    path: Path,
    class_ids: tuple[int, ...],
    *,
    image_dir: Path | None = None,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    problems: list[Problem] | None = None,
) -> tuple[PhotoStore, list[Sample]]:
    """Load the photos of a folder or list file, decoded once and cached on disk, negatives included.

    Raises ``DataError`` naming the file for anything missing or broken. Given a list of ``problems``, broken pictures
    and pictures with broken labels are told there and left out, unless they are more than a fifth.
    """
    samples = load_split(path, image_dir, class_ids, problems=problems)
    cache = PhotoCache([sample.image for sample in samples], directory=cache_dir, progress=progress, problems=problems)
    if problems:
        readable = set(cache.images)
        samples = [sample for sample in samples if sample.image.absolute() in readable]
        refuse_if_mostly_broken(problems, len(samples), str(path))
    return PhotoStore.build(zip(cache, (sample.boxes for sample in samples), strict=True)), samples


def fingerprint(store: PhotoStore) -> dict[str, int | str]:
    """Counts and a digest of the photos' sizes and labels, by which a resumed run knows its data again."""
    digest = hashlib.sha256()
    for part in (store.sizes, store.box_start, store.labels, store.boxes):
        digest.update(part.numpy().tobytes())
    return {"photos": len(store), "boxes": len(store.boxes), "sha256": digest.hexdigest()}
