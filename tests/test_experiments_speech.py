"""Speech data: spectrograms, the official split, folders of WAV files."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from kmixup.experiments.datasets import DATASETS
from kmixup.experiments.datasets.speech import official_side, spectrogram


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path / "cache"))


def tone(frequency, seconds=1.0, noise=0.0, seed=0):
    t = torch.arange(round(16_000 * seconds)) / 16_000
    sound = 0.5 * torch.sin(2 * torch.pi * frequency * t)
    return sound + noise * torch.randn(len(t), generator=torch.Generator().manual_seed(seed))


def write_words(folder, words, speakers):
    for number, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        for seed, speaker in enumerate(speakers):
            sound = tone(400.0 * (number + 1), seconds=0.2, noise=0.01, seed=seed).numpy()
            soundfile.write(folder / word / f"{speaker}_nohash_0.wav", sound, 16_000)


def test_a_spectrogram_is_that_of_scipy():
    # scipy's transform from first principles: frames every 10 ms, centred, ends reflected.
    wave = tone(1000.0, noise=0.1).double()
    padded = np.pad(wave.numpy(), 160, mode="reflect")
    window = signal.get_window("hamming", 320, fftbins=True)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 320)[::160] * window
    log = np.log1p(np.abs(np.fft.rfft(frames, axis=1)).T)[1:]
    expected = torch.from_numpy((log - log.mean()) / log.std())
    assert expected.shape == (160, 101)
    torch.testing.assert_close(spectrogram(wave), expected)


@pytest.mark.parametrize("frequency", [500.0, 1000.0, 4000.0])
def test_a_tone_peaks_at_its_frequency(frequency):
    row = spectrogram(tone(frequency)).mean(1).argmax().item()
    assert row == frequency / 50 - 1  # rows are 50 Hz apart and start at 50 Hz


def test_spectrograms_are_standardised_before_padding():
    whole = spectrogram(tone(700.0, noise=0.1))
    torch.testing.assert_close(whole.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(whole.std(correction=0), torch.tensor(1.0), rtol=0, atol=1e-4)
    short = spectrogram(tone(700.0, seconds=0.4, noise=0.1))
    assert short.shape == (160, 101)
    assert short[:, 41:].abs().sum() == 0
    torch.testing.assert_close(short[:, :41].std(correction=0), torch.tensor(1.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 100, 321, 20_000])
def test_recordings_of_any_length_become_one_size(samples):
    assert spectrogram(torch.rand(samples)).shape == (160, 101)


def test_silence_becomes_zero():
    assert spectrogram(torch.zeros(16_000)).abs().sum() == 0


@pytest.mark.parametrize(
    ("speaker", "side"),
    # From the lists that come with the data set, testing_list.txt; other sides follow from the published rule.
    [("022cd682", "testing"), ("0c40e715", "testing"), ("0c540988", "testing"), ("2005ca25", "testing")],
)
def test_the_official_split_is_that_of_the_published_lists(speaker, side):
    assert official_side(f"{speaker}_nohash_0.wav") == side
    assert official_side(f"{speaker}_nohash_17.wav") == side


def test_the_official_split_has_the_published_shares():
    n = 20_000
    sides = [official_side(f"{i:08x}_nohash_0.wav") for i in range(n)]
    for side, share in (("training", 0.8), ("validation", 0.1), ("testing", 0.1)):
        assert abs(sides.count(side) - n * share) < 5 * (n * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("below", ["", "speech_commands", "SpeechCommands/speech_commands_v0.01"])
def test_words_are_read_from_their_folders(tmp_path, below):
    speakers = [f"{i:08x}" for i in range(30)]
    write_words(tmp_path / below, ["no", "yes"], speakers)
    (tmp_path / below / "_background_noise_").mkdir()
    soundfile.write(tmp_path / below / "_background_noise_" / "hum.wav", tone(50.0).numpy(), 16_000)
    data = DATASETS["speech-commands"](tmp_path, 0)
    sides = [official_side(speaker) for speaker in speakers]
    assert data.num_classes == 2
    assert len(data.y_train) == 2 * sides.count("training")
    assert len(data.y_test) == 2 * sides.count("testing")
    assert data.x_train.shape[1:] == (1, 160, 101)
    peak = data.x_train.mean((1, 3)).argmax(1) + 1
    torch.testing.assert_close(peak, torch.where(data.y_train == 0, 8, 16))  # 400 and 800 Hz


def test_a_split_by_speaker_keeps_speakers_apart(tmp_path):
    write_words(tmp_path, ["down", "up"], [f"{i:08x}" for i in range(10)])
    (tmp_path / "up" / "00000003_nohash_1.wav").write_bytes((tmp_path / "up" / "00000003_nohash_0.wav").read_bytes())
    splits = [DATASETS["speech-commands"](tmp_path, seed, split="speaker", test_share=0.3) for seed in range(3)]
    for data in splits:
        assert len(data.y_test) in (6, 7)
        assert len(data.y_train) + len(data.y_test) == 21
        assert "split by speaker" in data.note
        # A speaker's twin recordings stay together: no spectrogram is on both sides.
        seen = set(data.x_train[:, 0, 5, 5].tolist()) & set(data.x_test[:, 0, 5, 5].tolist())
        assert not seen
    assert len({tuple(data.x_test[:, 0, 5, 5].tolist()) for data in splits}) > 1


def test_chosen_words_are_the_only_classes(tmp_path):
    write_words(tmp_path, ["down", "left", "up"], [f"{i:08x}" for i in range(6)])
    data = DATASETS["speech-commands"](tmp_path, 0, split="speaker", words=["up", "down"])
    assert data.num_classes == 2
    assert "2 words" in data.note
    with pytest.raises(ValueError, match="no folder for the words sideways"):
        DATASETS["speech-commands"](tmp_path, 0, words=["sideways"])


def test_a_split_that_leaves_one_side_empty_is_refused(tmp_path):
    write_words(tmp_path, ["down", "up"], ["022cd682", "0c40e715"])
    with pytest.raises(ValueError, match=r"0 training and 4 test files of 4.*split='speaker'"):
        DATASETS["speech-commands"](tmp_path, 0)


def test_sounds_at_another_rate_are_refused(tmp_path):
    (tmp_path / "up").mkdir()
    soundfile.write(tmp_path / "up" / "a_nohash_0.wav", np.zeros(800), 8_000)
    with pytest.raises(ValueError, match="mono at 16000 Hz"):
        DATASETS["speech-commands"](tmp_path, 0, split="speaker")


def test_files_that_are_no_sounds_are_refused(tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "a_nohash_0.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="not a sound file"):
        DATASETS["speech-commands"](tmp_path, 0, split="speaker")


@pytest.mark.parametrize("endings", [("WAV", "wav"), ("WAV",), ("Wav", "wav", "WAV")])
def test_recordings_are_found_however_their_endings_are_written(tmp_path, endings):
    write_words(tmp_path, ["left", "right"], [f"{i:08x}" for i in range(10)])
    for i, file in enumerate(sorted(tmp_path.rglob("*.wav"))):
        file.rename(file.with_suffix(f".{endings[i % len(endings)]}"))
    data = DATASETS["speech-commands"](tmp_path, 0, split="speaker")
    assert (len(data.y_train), len(data.y_test)) == (16, 4)


def test_a_speaker_is_one_however_the_endings_are_written(tmp_path):
    write_words(tmp_path, ["left", "right"], [f"{i:08x}" for i in range(10)])
    for file in (tmp_path / "left").iterdir():
        file.rename(file.with_suffix(".WAV"))
    data = DATASETS["speech-commands"](tmp_path, 0, split="speaker")
    assert data.y_test.tolist() == [0, 0, 1, 1]  # both words of two speakers
    assert official_side("022cd682_nohash_0.WAV") == official_side("022cd682_nohash_0.wav")


def test_files_that_are_no_wav_are_said(tmp_path):
    write_words(tmp_path, ["down", "up"], [f"{i:08x}" for i in range(6)])
    (tmp_path / "up" / "a.mp3").write_bytes(b"")
    (tmp_path / "up" / "._b.wav").write_bytes(b"what macOS leaves")
    note = DATASETS["speech-commands"](tmp_path, 0, split="speaker").note
    assert note.endswith("1 files that are no WAV left out, such as a.mp3")


def test_a_recording_with_nan_is_refused(tmp_path):
    (tmp_path / "up").mkdir()
    soundfile.write(tmp_path / "up" / "a_nohash_0.wav", np.full(800, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match="not finite"):
        DATASETS["speech-commands"](tmp_path, 0, split="speaker")


def test_a_recording_in_the_folder_of_another_word_is_other_data(tmp_path):
    write_words(tmp_path, ["down", "up"], [f"{i:08x}" for i in range(6)])
    before = DATASETS["speech-commands"](tmp_path, 0, split="speaker")
    (tmp_path / "up" / "00000003_nohash_0.wav").rename(tmp_path / "down" / "00000003_nohash_1.wav")
    after = DATASETS["speech-commands"](tmp_path, 0, split="speaker")
    assert after.source != before.source
    assert after.y_train.sum() + after.y_test.sum() == before.y_train.sum() + before.y_test.sum() - 1


def test_missing_folders_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--data-dir.*kmixup data fetch speech-commands"):
        DATASETS["speech-commands"](tmp_path, 0)


@pytest.mark.parametrize(("option", "value"), [("split", "random"), ("test_share", 1.5)])
def test_wrong_options_are_refused(tmp_path, option, value):
    with pytest.raises(ValueError, match=option):
        DATASETS["speech-commands"](tmp_path, 0, **{option: value})
