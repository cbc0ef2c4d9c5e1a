"""Telling what a file is, by how it begins, that was given for something else."""

from __future__ import annotations

import re

MODELS = {
    "prototxt": "a prototxt",
    "caffemodel": "a caffemodel",
    "onnx": "a model in ONNX",
}
"""What a model is called that is wanted."""
HEAD = 4096
"""Bytes that are enough to tell."""
EXPORT = "export the model to ONNX with its own tools first"
_SAVE = "in Python, onnx.save(onnx.load(FILE, '{}'), 'model.onnx') makes one of it"
_SOURCE = "give the model that it was converted from"
_LENGTH = rb"[\x80-\xff]{,3}[\0-\x7f]"  # of a message in protobuf's
_CORE_ML = rb"\x08[\1-\x1f]\x12%b\n%b\n" % (_LENGTH, _LENGTH)  # version, inputs of its description
_FETCH = "the download failed, or was of the page about the file"

# How a file begins, what it is, and what to do. With a line feed a message of protobuf begins, too.
_FORMATS = (
    (rb"\s*<\?xml", "an XML file, as OpenVINO writes,", _SOURCE),
    (rb"\s*<(!|\w+[\s>/])", "a web page", _FETCH),
    (rb"\s*\{.*\"(ir_?[vV]ersion|op(setI|set_i)mport)\"\s*:", "JSON of an ONNX model", _SAVE.format("json")),
    (rb"\s*\{\s*\"", "JSON", _FETCH),
    (rb"(\s|#[^\n]*\n)*(ir_version\s*:|opset_import\s*\{)", "text of an ONNX model", _SAVE.format("textproto")),
    (rb"\s*<\s*(ir_version|opset_import)\s*:", "text of an ONNX model", _SAVE.format("onnxtxt")),
    (rb"404: Not Found", "an error message of a server", "the download failed"),
    (rb"version https://git-lfs", "a git-lfs pointer", "run `git lfs pull`"),
    (rb"\x93NUMPY|PK\x03\x04.{26}[^\0]{0,200}?\.npy", "a NumPy file", ""),
    (rb"PK\x03\x04.*(data\.pkl|archive/|\.keras|config\.json)", "a model of PyTorch or Keras", EXPORT),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|.{257}ustar[\0 ]", "an archive", "unpack it and give what is inside"),
    (rb"\x1f\x8b|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd", "a compressed file", "unpack it first"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes,", EXPORT),
    (rb"\x80[\x02-\x05]", "a pickle, as PyTorch writes,", EXPORT),
    (rb".\0\0\0TFL3", "a model of TensorFlow Lite", EXPORT),
    (rb".{6}\0\0\{\s*\"", "a file of weights alone (safetensors)", EXPORT),
    (rb"GGUF", "a file of weights alone (GGUF)", EXPORT),
    (rb"\n.*\x12(\x0bPlaceholder|\x05Const)", "a graph of TensorFlow", EXPORT),
    (rb"\x08\x01\x12.*\x12(\x0bPlaceholder|\x05Const)", "a model of TensorFlow", EXPORT),
    (_CORE_ML, "a model of Core ML", EXPORT),
    (rb"[fp]trt.{,60}\0", "an engine of TensorRT", _SOURCE),
    (rb"7767517\s", "a network of ncnn", _SOURCE),
    (rb"\[net(work)?\]", "a network of Darknet", EXPORT),
    (rb"\0{4}[\1\2]\0{3}[\0-\5]\0{3}", "a file of Darknet's weights", EXPORT),
    (rb"(\s|#[^\n]*\n)*item\s*\{", "a map of labels", ""),
    (rb"(\s|#[^\n]*\n)*node\s*\{", "a graph of TensorFlow as text", EXPORT),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}|RIFF", "an image", ""),
    (rb"%PDF", "a PDF", ""),
)


_UTF16 = (
    (rb"\xff\xfe|(?:[\t-\r -~]\0){2}.*l\0a\0y\0e\0r\0", "utf-16-le"),
    (rb"\xfe\xff|(?:\0[\t-\r -~]){2}.*\0l\0a\0y\0e\0r", "utf-16-be"),
)
"""Text of two bytes for a letter begins with its mark, or without one with ASCII, and then a network has a layer."""


def utf16_of(content: bytes) -> str:
    """Which UTF-16 bytes are, by their beginning; empty for all others."""
    return next((encoding for begins, encoding in _UTF16 if re.match(begins, content, re.DOTALL)), "")


def text_of(content: bytes) -> str:
    """Bytes as text, without the mark of its encoding: UTF-16, or UTF-8 with other bytes as surrogate escapes."""
    if encoding := utf16_of(content):
        return content.decode(encoding, "replace").removeprefix("\ufeff")
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def is_text(head: bytes) -> bool:
    """Whether a file is text, by its first bytes: ASCII, or with other letters and a bracket, as a prototxt has one."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (b"{" in text or text.isascii()) and all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in text)


def other_format(head: bytes, wanted: str) -> str:
    """What a file is, by its first bytes, that should be something else; no text when that cannot be told.

    Args:
        head: the first bytes of the file, `HEAD` of them where there are as many.
        wanted: a key of `MODELS`; or what else it should be, with its article.

    Examples:
        >>> other_format(b"\\x1f\\x8b\\x08", "caffemodel")
        'is a compressed file and not a caffemodel: unpack it first'
    """
    if not head:
        return "is empty"
    text = head.removeprefix(b"\xef\xbb\xbf")
    what, advice = next((row[1:] for row in _FORMATS if re.match(row[0], text, re.DOTALL)), ("", ""))
    if not what or what.startswith(wanted):
        return ""
    said = f": {advice}" if advice and (wanted in MODELS or advice is not EXPORT) else ""
    return f"is {what} and not {MODELS.get(wanted, wanted)}{said}"
