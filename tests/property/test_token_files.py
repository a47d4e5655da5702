"""However documents are cut into shards, the same documents come out; any bytes are tokens or one clear line."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.preparing import finish

from nudge.config import DataConfig
from nudge.data.foreign import meta_pkl, token_files
from nudge.data.shards import Dataset
from nudge.data.tokenizer import ByteTokenizer
from nudge.errors import DataError, TokenizerError

EOT = ByteTokenizer().eot
TEXTS = st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=12)


def opened(folder: Path, val_share: float) -> Dataset:
    config = DataConfig(paths=(str(folder),), tokenizer="bytes", val_share=val_share)
    return finish(token_files.prepare(config, token_files.find(config.paths), folder / "noted"))[1]


def documents(dataset: Dataset) -> list[bytes]:
    found = []
    for tokens in (dataset.train, dataset.val):
        ends = tokens.ends.tolist()
        found += [tokens.read(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    return [dataset.tokenizer.decode_bytes(ids) for ids in found]


@settings(deadline=None)
@given(texts=TEXTS, cuts=st.lists(st.integers(1, 200), max_size=4), val_share=st.floats(0.01, 0.9), raw=st.booleans())
def test_documents_come_out_as_they_went_in(texts: list[bytes], cuts: list[int], val_share: float, raw: bool):
    ids = [token for text in texts for token in ((*text, EOT) if raw else (EOT, *text))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inside = [] if raw else sorted({cut for cut in cuts if cut < len(ids)})
        if raw:
            np.array(ids, dtype=np.uint16).tofile(folder / "train.bin")
        else:
            for number, (start, end) in enumerate(zip([0, *inside], [*inside, len(ids)], strict=True)):
                header = np.zeros(256, dtype=np.int32)
                header[:3] = 20240520, 1, end - start
                tokens = np.array(ids[start:end], dtype=np.uint16)
                (folder / f"x_train_{number}.bin").write_bytes(header.tobytes() + tokens.tobytes())
        dataset = opened(folder, val_share)
        tokens = [*dataset.train.read(0, len(dataset.train)), *dataset.val.read(0, len(dataset.val))]
        assert tokens == ids
        at, edges = len(dataset.train), [place + raw for place, token in enumerate(ids) if token == EOT]
        if at in edges:
            assert documents(dataset) == texts
        else:  # no document ends between the cut and the end of its file
            file_ends = min(end for end in (*inside, len(ids)) if end > at)
            assert not [edge for edge in edges if at < edge < file_ends]


@given(data=st.binary(max_size=2000), headed=st.booleans())
def test_any_bytes_are_tokens_or_one_clear_line(data: bytes, headed: bool):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "x_train_1.bin" if headed else "train.bin")
        path.write_bytes(data)
        if data and len(data) % 2 == 0 and not headed:
            assert token_files.inspect(path).n_tokens * 2 == len(data)
        else:
            with pytest.raises(DataError) as raised:
                token_files.inspect(path)
            assert "\n" not in raised.value.message


@given(st.binary(max_size=200))
def test_any_bytes_are_no_meta_pkl(data: bytes):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "meta.pkl")
        path.write_bytes(data)
        with pytest.raises(TokenizerError):
            meta_pkl.read(path)
