"""Leaks in binary containers: everything a picture, an archive or a tensor file can carry beside what it is for."""

import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import torch
from safetensors.torch import load, save

from sepsis_cql.publishing.guard.png import decode_png, encode_png

SECRET = b"subject 10012345"
KINDS = (
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"pHYs",
    b"PLTE",
    b"tIME",
    b"eXIf",
    b"gAMA",
    b"tRNS",
    b"sRGB",
    b"pvTe",
    b"IHDR",
)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind, at):
    def plant(png):
        place = 33 if at == "start" else len(png) - 12
        return png[:place] + chunk(kind, SECRET) + png[place:]

    return plant


def with_pixels(change):
    def plant(png):
        pixels = decode_png(png).copy()
        return encode_png(change(pixels))

    return plant


def with_data(change):
    def plant(png):
        size = struct.unpack_from(">I", png, 33)[0]
        raw = zlib.decompress(png[41 : 41 + size])
        return png[:33] + chunk(b"IDAT", change(png[41 : 41 + size], raw)) + png[45 + size :]

    return plant


def one_pixel(pixels):
    pixels[3, 5, 1] ^= 1
    return pixels


def two_idat(png):
    size = struct.unpack_from(">I", png, 33)[0]
    data = png[41 : 41 + size]
    return png[:33] + chunk(b"IDAT", data[:99]) + chunk(b"IDAT", data[99:]) + png[45 + size :]


PICTURES = {
    **{
        f"chunk {kind.decode()} at the {at}": with_chunk(kind, at)
        for kind in KINDS
        for at in ("start", "end")
    },
    "bytes after the end": lambda png: png + SECRET,
    "bytes before the start": lambda png: SECRET + png,
    "bytes in the last chunk": lambda png: png[:-12] + chunk(b"IEND", SECRET),
    "bytes after the pixels": with_data(lambda data, raw: data + SECRET),
    "more rows than its height": with_data(lambda data, raw: zlib.compress(raw + SECRET, 9)),
    "fewer rows than its height": with_data(lambda data, raw: zlib.compress(raw[:-3], 9)),
    "another filter": with_data(lambda data, raw: zlib.compress(b"\1" + raw[1:], 9)),
    "empty block in the stream": with_data(
        lambda data, raw: b"\x78\x01" + b"\0\0\0\xff\xff" * 3 + data[2:] + SECRET
    ),
    "two data chunks": two_idat,
    "bad checksum": lambda png: png[:29] + b"1001" + png[33:],
    "one pixel": with_pixels(one_pixel),
    "rows of patients as pixels": with_pixels(lambda pixels: np.random.default_rng(1).permutation(pixels)),
    "larger picture": with_pixels(lambda pixels: np.vstack([pixels, pixels])),
    "not a picture": lambda png: b"PAR1" + SECRET,
    "empty": lambda png: b"",
}


def with_tensors(change, metadata=None):
    def plant(content):
        tensors = load(content)
        change(tensors)
        return save(tensors, metadata={"format": "pt"} if metadata is None else metadata)

    return plant


def with_header(change):
    def plant(content):
        size = struct.unpack_from("<Q", content)[0]
        header = change(content[8 : 8 + size])
        return struct.pack("<Q", len(header)) + header + content[8 + size :]

    return plant


def add_rows(tensors):
    tensors["rows"] = torch.arange(10012345, 10012349)


def nudge(tensors):
    tensors["net.0.bias"][0] += 0.5


def widen(tensors):
    tensors["mean"] = torch.cat([tensors["mean"], torch.tensor([10012345.0])])


WEIGHTS = {
    "further tensor": with_tensors(add_rows),
    "metadata": with_tensors(lambda tensors: None, {"format": "pt", "note": "10012345"}),
    "other format": with_tensors(lambda tensors: None, {"format": "10012345"}),
    "no metadata": with_tensors(lambda tensors: None, {}),
    "changed weight": with_tensors(nudge),
    "longer tensor": with_tensors(widen),
    "missing tensor": with_tensors(lambda tensors: tensors.pop("fill")),
    "double precision": with_tensors(lambda tensors: tensors.update(mean=tensors["mean"].double())),
    "NaN with a payload": with_tensors(lambda tensors: tensors["mean"].fill_(float("nan"))),
    "spaces in the header": with_header(lambda header: header + b" " * 64),
    "key order of the header": with_header(
        lambda header: json.dumps(dict(reversed(json.loads(header).items()))).encode().ljust(len(header))
    ),
    "repeated key in the header": with_header(lambda header: b'{"mean":{"note":10012345},' + header[1:]),
    "bytes after the end": lambda content: content + SECRET,
    "bytes before the start": lambda content: SECRET + content,
    "header of 4 GB": lambda content: struct.pack("<Q", 1 << 32) + content[8:],
    "empty": lambda content: b"",
}


def with_values(change):
    def plant(content):
        values = torch.load(io.BytesIO(content), weights_only=True)
        change(values)
        buffer = io.BytesIO()
        torch.save(values, buffer)
        return buffer.getvalue()

    return plant


def with_member(name, data=SECRET, **options):
    def plant(content):
        buffer = io.BytesIO(content)
        with zipfile.ZipFile(buffer, "a", **options) as archive:
            archive.writestr(name, data)
        return buffer.getvalue()

    return plant


def rewritten(change, compression=zipfile.ZIP_STORED, comment=b""):
    def plant(content):
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, change(entry.filename, old.read(entry)))
            new.comment = comment
        return buffer.getvalue()

    return plant


def in_pickle(change):
    return rewritten(lambda name, data: change(data) if name.endswith("data.pkl") else data)


def full_state(values):
    parameters = list(values["model_state_dict"].values())
    return {i: {"step": torch.tensor(1800.0), **moments(part)} for i, part in enumerate(parameters)}


def moments(parameter):
    return {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}


def plant_state(change):
    def plant(values):
        state = full_state(values)
        change(state)
        values["optimizer_state_dict"]["state"] = state

    return with_values(plant)


class Steal:
    def __reduce__(self):
        return (print, ("10012345",))


CHECKPOINTS = {
    "further key": with_values(lambda values: values.update(rows=torch.tensor([10012345]))),
    "further weight": with_values(lambda values: values["model_state_dict"].update(rows=torch.tensor([10012345]))),
    "changed weight": with_values(lambda values: values["model_state_dict"]["net.0.bias"].add_(1)),
    "tensor of a larger storage": with_values(
        lambda values: values["model_state_dict"].update(
            {"net.0.bias": torch.cat([values["model_state_dict"]["net.0.bias"], torch.ones(9)])[:256]}
        )
    ),
    "another epoch": with_values(lambda values: values.update(epoch=10012345)),
    "another step": with_values(lambda values: values.update(global_step=3)),
    "field of the optimizer": with_values(lambda values: values["optimizer_state_dict"].update(rows=[10012345])),
    "field of a parameter group": with_values(
        lambda values: values["optimizer_state_dict"]["param_groups"][0].update(note="10012345")
    ),
    "second parameter group": with_values(
        lambda values: values["optimizer_state_dict"]["param_groups"].append({"lr": 10012345})
    ),
    "another learning rate": with_values(
        lambda values: values["optimizer_state_dict"]["param_groups"][0].update(lr=0.10012345)
    ),
    "state of one parameter": plant_state(lambda state: [state.pop(i) for i in range(1, 6)]),
    "further moment": plant_state(lambda state: state[0].update(rows=torch.ones(3))),
    "moment of another shape": plant_state(lambda state: state[0].update(exp_avg=torch.ones(3))),
    "moment of integers": plant_state(lambda state: state[1].update(exp_avg=torch.tensor([10012345]))),
    "moment that is a text": plant_state(lambda state: state[0].update(exp_avg="10012345")),
    "moment with NaN": plant_state(lambda state: state[0]["exp_avg"].fill_(float("nan"))),
    "step of a parameter": plant_state(lambda state: state[2].update(step=torch.tensor(10012345.0))),
    "state under another name": plant_state(lambda state: state.update({"10012345": {}})),
    "further file": with_member("archive/rows.csv"),
    "further tensor file": with_member("archive/data/99"),
    "repeated file": with_member("archive/version", b"3\n"),
    "file outside": with_member("../rows.csv"),
    "compressed": rewritten(lambda name, data: data, zipfile.ZIP_DEFLATED),
    "comment": rewritten(lambda name, data: data, comment=SECRET),
    "written by another program": rewritten(lambda name, data: data),
    "bytes after the pickle": in_pickle(lambda data: data + SECRET),
    "text in the pickle": in_pickle(lambda data: data[:2] + b"X\x10\0\0\0" + SECRET + b"0" + data[2:]),
    "code in the pickle": in_pickle(lambda data: pickle.dumps(Steal(), 2)),
    "longer version": rewritten(lambda name, data: data + SECRET if name.endswith("version") else data),
    "other serialization id": rewritten(
        lambda name, data: b"10012345" * 5 if name.endswith("serialization_id") else data
    ),
    "bytes after the end": lambda content: content + SECRET,
    "bytes before the start": lambda content: SECRET + content,
    "not an archive": lambda content: pickle.dumps({"rows": [10012345]}),
    "empty": lambda content: b"",
}  # fmt: skip
