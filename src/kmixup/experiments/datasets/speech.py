"""Speech: spectrograms of one-second words, from folders of WAV files as in Google Speech Commands."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kmixup.experiments.datasets.cache import Tensors, cache_dir, decoded
from kmixup.experiments.datasets.data import Data

Split = Literal["hash", "speaker"]
SPLITS = ("hash", "speaker")

RATE = 16_000
"""Samples per second."""

FRAMES = 101
"""Frames of a spectrogram: one second at a stride of 10 ms, both ends included."""

_WINDOW, _STRIDE = 320, 160  # 20 ms and 10 ms
_FOLDERS = ("", "speech_commands", "speech_commands_v0.01", "SpeechCommands/speech_commands_v0.01")
_SHARES = 2**27 - 1


def speech_commands(
    data_dir: Path | None = None,
    seed: int = 0,
    *,
    split: Split = "hash",
    test_share: float = 0.2,
    words: Sequence[str] | None = None,
) -> Data:
    """Speech Commands: 160 x 101 spectrograms of words, one class a folder of WAV files.

    The paper's data are the 30 words of version 0.01. Folders whose name starts with ``_`` (noise) are no words.

    Args:
        data_dir: Holds a folder per word, or ``speech_commands``, ``speech_commands_v0.01``, or torchvision's layout.
        seed: Draws the speakers that are tested on, for ``split="speaker"``.
        split: ``"hash"``: the official rule, training against testing files, validation files left out;
            ``"speaker"``: random speakers are tested on, for files that the rule puts on one side.
        test_share: Share of the speakers that are tested on, for ``split="speaker"``.
        words: Use these folders only; default: all.

    Raises:
        FileNotFoundError: If there are no folders of WAV files.
        ValueError: If a file is no mono WAV at 16 kHz, or one side of the split is empty.

    Paper: Table 6, Google Speech Commands.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be in (0, 1), got {test_share}.")
    folder = _folder(data_dir)
    found = sorted(path.name for path in folder.iterdir() if _is_word(path))
    missing = sorted(set(words or ()) - set(found))
    if missing:
        raise ValueError(f"no folder for the words {', '.join(missing)} in {folder}. It has {', '.join(found)}.")
    chosen = [word for word in found if words is None or word in words]
    files = [(file, label) for label, word in enumerate(chosen) for file in _recordings(folder / word)]

    def decode() -> Tensors:
        return {"spectrograms": torch.stack([spectrogram(_waveform(file)) for file, _ in files])}

    tensors, source = decoded("speech-commands", [file for file, _ in files], decode, folder)
    x = tensors["spectrograms"].unsqueeze(1)
    y = torch.tensor([label for _, label in files])
    sides = _by_hash(files) if split == "hash" else _by_speaker(files, seed, test_share)
    train, test = (torch.tensor([side == name for side in sides]) for name in ("training", "testing"))
    if not train.any() or not test.any():
        raise ValueError(
            f"split='{split}' gives {int(train.sum())} training and {int(test.sum())} test files of {len(files)}: both "
            "must have some. " + ("Use split='speaker'." if split == "hash" else "Change test_share.")
        )
    others = [
        file for word in chosen for file in (folder / word).iterdir() if not _is_wav(file) and file.name[0] != "."
    ]
    notes = [f"{len(chosen)} words, not the paper's 30"] * (len(chosen) != 30)
    notes += [f"split by speaker, {test_share:.0%} of the speakers tested on"] * (split == "speaker")
    notes += [f"{len(others)} files that are no WAV left out, such as {file.name}" for file in others[:1]]
    return Data(x[train], y[train], x[test], y[test], num_classes=len(chosen), note="; ".join(notes), source=source)


def spectrogram(waveform: Tensor) -> Tensor:
    """A spectrogram of 160 x 101: log(1 + magnitude), standardised, then padded with zeros or cut to 101 frames.

    Zhang et al. (2018), whom the paper follows: normalised spectrograms at 16 kHz, zero-padded to 160 x 101. The usual
    loader behind that size takes windows of 20 ms (Hamming) every 10 ms, hence 161 frequencies. Our choice: 0 Hz, which
    holds the recording's offset and no speech, is left out.

    Args:
        waveform: Samples at 16 kHz in [-1, 1], shape ``[n]``.

    Returns:
        Shape ``[160, 101]``.

    Paper: Section 5, spectrograms of Table 6.
    """
    if len(waveform) < _WINDOW:  # too short to reflect at its ends
        waveform = F.pad(waveform, (0, _WINDOW - len(waveform)))
    window = torch.hamming_window(_WINDOW, dtype=waveform.dtype)
    magnitude = torch.stft(waveform, _WINDOW, _STRIDE, window=window, return_complex=True).abs()
    log = magnitude[1:].log1p()
    spread = log.std(correction=0)
    standard = (log - log.mean()) / torch.where(spread > 0, spread, 1.0)  # silence becomes 0
    return F.pad(standard, (0, max(0, FRAMES - standard.shape[1])))[:, :FRAMES]


def official_side(name: str) -> Literal["training", "validation", "testing"]:
    """Where the official split puts a recording, by the rule that the data set publishes: 80, 10 and 10 % of speakers.

    The speaker is the part of the file's name before ``_nohash_``; its SHA-1 decides, so a speaker's recordings stay
    together, and files added later move nothing.

    Args:
        name: File name, such as ``"0a7c2a8d_nohash_0.wav"``.
    """
    digest = int(hashlib.sha1(_speaker(name).encode(), usedforsecurity=False).hexdigest(), 16)
    percent = (digest % (_SHARES + 1)) * (100.0 / _SHARES)
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def _by_hash(files: Sequence[tuple[Path, int]]) -> list[str]:
    return [official_side(file.name) for file, _ in files]


def _by_speaker(files: Sequence[tuple[Path, int]], seed: int, test_share: float) -> list[str]:
    speakers = sorted({_speaker(file.name) for file, _ in files})
    order = torch.randperm(len(speakers), generator=Generator().manual_seed(seed)).tolist()
    tested = {speakers[i] for i in order[: round(test_share * len(speakers))]}
    return ["testing" if _speaker(file.name) in tested else "training" for file, _ in files]


def _speaker(name: str) -> str:
    return Path(name).stem.partition("_nohash_")[0]


def _recordings(folder: Path) -> list[Path]:
    return sorted(filter(_is_wav, folder.iterdir()), key=lambda file: file.name)


def _is_wav(file: Path) -> bool:
    return file.suffix.lower() == ".wav" and not file.name.startswith(".")  # many recorders write .WAV


def _is_word(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(("_", ".")) and any(map(_is_wav, path.iterdir()))


def _folder(data_dir: Path | None) -> Path:
    roots = ([data_dir] if data_dir is not None else []) + [cache_dir() / "data" / "speech-commands"]
    places = [root / part for root in roots for part in _FOLDERS]
    for place in places:
        if place.is_dir() and any(_is_word(path) for path in place.iterdir()):
            return place
    raise FileNotFoundError(
        f"no folders of WAV files in any of {', '.join(str(place) for place in places)}. Give their folder with "
        "--data-dir, or run `kmixup data fetch speech-commands`."
    )


def _waveform(file: Path) -> Tensor:
    import soundfile

    try:
        samples, rate = soundfile.read(file, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{file} is not a sound file ({error}). Fetch it again, or remove it.") from error
    if rate != RATE or samples.ndim != 1 or not len(samples):
        raise ValueError(
            f"{file} must be mono at {RATE} Hz, got {list(samples.shape)} samples at {rate} Hz. Convert it first."
        )
    if not np.isfinite(samples).all():
        raise ValueError(f"{file} has samples that are not finite. Write it again, or remove it.")
    return torch.from_numpy(samples)
