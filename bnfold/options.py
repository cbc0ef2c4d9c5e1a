"""What a caller may choose: one record for reading, one for ONNX, one for comparing. The command line fills the same.

Each is a frozen dataclass. A function that takes one also takes its fields as keywords, which win over the record's:

    >>> net = bnfold.load("deploy.prototxt", "net.caffemodel", batch=8)
    >>> net = bnfold.load("deploy.prototxt", "net.caffemodel", options=bnfold.ReadOptions(batch=8))  # the same
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from bnfold.errors import UsageError, did_you_mean, with_article

if TYPE_CHECKING:
    import numpy.typing as npt
    from distributed import Client

    from bnfold.data.preparation import Preparation

TOLERANCES = {"bfloat16": 8e-2, "float16": 1e-2, "float32": 1e-4, "float64": 1e-9}
"""Stored type -> what networks that compute the same may differ by, of a blob's range: some ten roundings of a value,
and in float32 a thousand, since there the sums of a deep network differ by more than its weights."""
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
"""Type of values -> half a unit in their last place, relative."""
MOST_OF_FLOAT16 = 65_504
"""The largest number of float16."""

BatchNormLayout = Literal["bvlc", "cudnn", "ducha", "intel", "nvcaffe", "nvcaffe015", "pspnet", "segnet", "tsn"]
ZeroScaleFactor = Literal["caffe", "one"]
CropOffset = Literal["caffe", "aligned"]
Dialect = Literal["bvlc", "keep"]


SHOWN = 60  # characters of a value in the repr of options; the mean of images has pages


def brief(record: Any) -> str:
    """The repr of a record that has a default for each field: the fields that have another value, cut where long."""
    plain, shown = type(record)(), []
    for one in fields(record):
        text, usual = (" ".join(repr(getattr(each, one.name)).split()) for each in (record, plain))
        if text != usual:
            shown.append(f"{one.name}={text if len(text) <= SHOWN else text[:SHOWN] + '...'}")
    return f"{type(record).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReadOptions:
    """How to read a network; of these, `input_shapes`, `batch`, `guess_shapes` and `until` are for ONNX models, too.

    Attributes:
        input_shapes: input -> shape, where the file does not say it or says another.
        batch: the first dimension of every input.
        ignore_unknown_fields: go on without each field that no dialect has, and say so in `Net.notes`. Otherwise such
            a field is passed over only where it means nothing at inference, and its layer is opaque elsewhere.
        strict_fields: stop at each field that no dialect has.
        guess_shapes: take 1x3x224x224, or another usual size that fits, for an input whose shape nothing says, and
            say so in `Net.notes`.
        caffemodel_dialect: whose Caffe wrote a caffemodel that is read without a prototxt, one of
            `bnfold.caffe.dialects.DIALECTS`; found out from the file if None.
        stages: of the net's state, beside those that the file names, for the rules of layers that ask for them.
        level: the level of the net, for those rules; None takes the file's own, or 0.
        batchnorm_layout: how to read BatchNorms that can be read in two ways; see `bnfold.caffe.batchnorm.LAYOUTS`.
        until: blobs that the network shall end in; what they do not depend on is left out. All of it if empty.
        freeze_initializers: of ONNX models alone: take initialisers that are listed as inputs, and so may be fed, as
            constants.
        zero_scale_factor: what scale_factor 0 beside statistics means: "caffe" multiplies them by 0, "one" takes them
            as they are, None leaves it open, so that folding or exporting such a layer is refused.
        crop_offset: where a Crop that says no offset starts: "caffe" at 0, as today's, "aligned" where Caffes before
            2016 laid its bottoms over each other, None there, too, with a note where the two differ.
        recurrent_state: make the state of each LSTM and RNN, which Caffe keeps from call to call, an input and an
            output.
    """

    input_shapes: Mapping[str, Sequence[int]] | None = None
    batch: int | None = None
    ignore_unknown_fields: bool = False
    strict_fields: bool = False
    guess_shapes: bool = False
    caffemodel_dialect: str | None = None
    stages: Iterable[str] = ()
    level: int | None = None
    batchnorm_layout: BatchNormLayout | None = None
    zero_scale_factor: ZeroScaleFactor | None = None
    crop_offset: CropOffset | None = None
    recurrent_state: bool = False
    until: Sequence[str] = ()
    freeze_initializers: bool = False

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OnnxOptions:
    """How a Caffe network becomes ONNX.

    Attributes:
        opset: version of the standard operators, 11 to 21.
        outputs: the blobs that the model gives, `net.outputs` by default; any blob of the net may be named.
        dtype: float32 or float64, for weights and blobs alike.
        dynamic_batch: leave the first dimension open, as `N`, where the net allows it.
        allow_custom_ops: write layers that ONNX has no words for as nodes of the domain `caffe`.
        external_data: write the weights to `NAME.data` beside the model; always so when it passes 2 GiB.
        metadata: key-value pairs that the model carries.
    """

    opset: int = 17
    outputs: Sequence[str] | None = None
    dtype: npt.DTypeLike = "float32"
    dynamic_batch: bool = False
    allow_custom_ops: bool = False
    external_data: bool = False
    metadata: Mapping[str, str] | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CompareOptions:
    """How two networks are compared.

    Attributes:
        preparation: how image files become inputs; by default as the reference's prototxt says in `transform_param`.
        tolerance: the largest error allowed, relative to the range of the blob it is in; if None what follows from the
            type that the reference stores its values in: 1e-4 for float32, 1e-9 for float64, 1e-2 for float16, 8e-2
            for bfloat16.
        layers: compare every blob that both have and not the outputs alone.
        map: blobs of the reference -> blobs of the candidate, where the names differ.
        min_agreement: the least share of samples on which both must give the same answer.
        max_top1_drop: the most top-1 accuracy that the candidate may lose, as a share.
        exact: also measure both against a float64 run of the reference; slow.
        seed: of the noise that is drawn where no samples are given.
        sample_limit: take at most so many samples of the data.
        sample_seed: choose them at random, by this seed; by default the first are taken.
        batch: samples per run; by default as many as go in well, where both networks take more than they say.
        input_shapes: input -> shape, for a network that does not say it, unless it is a `Net`.
        reading: how networks are read that are no `Net` yet.
        threads: per operator, 512 at most, 0 for as many as the process can run at once.
        provider: onnxruntime's execution provider for both networks, by its short name: `bnfold.runtime.PROVIDERS`.
        reference_provider: another one for the reference.
        tf32: let products have 10 bits of mantissa where the provider's device has such units.
        memory: bytes that the process may hold, weights and blobs included; by default half of what is free. What does
            not fit is run in segments, and what cannot be run in it is refused with the least that is needed.
        bisect: compare the outputs, and only where they differ seek the first blob that does, by halving.
        checkpoint: a file in which the state is kept now and then, and from which the same comparison goes on.
        cluster: a `distributed.Client`, the address of a Dask scheduler, or a number of local worker processes.
    """

    preparation: Preparation | None = None
    tolerance: float | None = None
    layers: bool = True
    map: Mapping[str, str] = field(default_factory=dict)
    min_agreement: float | None = None
    max_top1_drop: float | None = None
    exact: bool = False
    seed: int = 0
    sample_limit: int | None = None
    sample_seed: int | None = None
    batch: int | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    reading: ReadOptions = ReadOptions()
    threads: int = 0
    provider: str = "cpu"
    reference_provider: str | None = None
    tf32: bool = False
    memory: int | None = None
    bisect: bool = False
    checkpoint: str | os.PathLike[str] | None = None
    cluster: Client | str | int | None = None

    __repr__ = brief

    @property
    def providers(self) -> tuple[str, str]:
        """That of the reference, and that of the candidate."""
        return self.provider if self.reference_provider is None else self.reference_provider, self.provider

    @property
    def limit(self) -> float:
        """The tolerance, or that of float32."""
        return TOLERANCES["float32"] if self.tolerance is None else self.tolerance


ELSEWHERE = {
    **dict.fromkeys(("atol", "rtol", "tol"), "tolerance"),
    **dict.fromkeys(("cuda", "device", "gpu"), "provider"),
}
"""What is called otherwise in other tools -> the option that is meant, of the command and of its function alike."""
MEANT = {
    **ELSEWHERE,
    **dict.fromkeys(("data", "dataset", "images", "inputs"), "samples"),
    "limit": "sample_limit",
    "sample": "sample_seed",
    "stage": "stages",
}
"""What is called otherwise in other tools, and by the command -> the argument that is meant."""

Options = TypeVar("Options", ReadOptions, OnnxOptions, CompareOptions)
Sized = TypeVar("Sized", ReadOptions, CompareOptions)


def changed(kind: type[Options], options: Options, changes: Mapping[str, object]) -> Options:
    """The options, a record of that kind, with some fields replaced.

    Raises:
        UsageError: there is no such option, a value is of another type or unknown, or a size is below 1.
    """
    if not isinstance(options, kind):
        raise UsageError(
            f"options are {with_article(kind.__name__)}, or its fields as keywords, and not {type(options).__name__}"
        )
    known = {known.name: known for known in fields(options)}
    if unknown := [name for name in changes if name not in known]:
        meant = MEANT.get(unknown[0], "")
        is_there = meant in known or (meant == "samples" and kind is CompareOptions)
        near = "" if meant else did_you_mean(unknown[0], known)  # whose letters say less than what is meant by it
        guess = f" (did you mean '{meant}'?)" if is_there else near
        guess = guess or f"; there are {', '.join(known)}"
        raise UsageError(f"there is no option '{unknown[0]}'{guess}")
    if changes:
        options = replace(options, **changes)  # type: ignore[arg-type]  # their types are looked at below
    given = {}
    for name, one in known.items():
        value = getattr(options, name)
        if value is one.default:
            continue
        require_type(f"the option {name}", value, str(one.type))
        # Whatever holds the words, and may be read once only, or be compared element by element.
        if str(one.type).startswith(WORDS) and value is not None:
            given[name] = tuple(value)
    if given:
        options = replace(options, **given)  # type: ignore[arg-type]
    return _with_dtype(options) if isinstance(options, OnnxOptions) else _with_sizes(options)


def differing(options: Options, plain: Options) -> list[str]:
    """The fields that two records of options have of different values."""
    return [one.name for one in fields(options) if getattr(options, one.name) != getattr(plain, one.name)]


def _with_dtype(options: OnnxOptions) -> OnnxOptions:
    """The options with the name of the dtype, whatever says it. Raises UsageError where that is none of the two."""
    import numpy as np  # which what shows options alone needs not

    try:
        dtype = None if options.dtype is None else np.dtype(options.dtype)  # that of None is float64
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.name not in ("float32", "float64"):
        raise UsageError(f"dtype {options.dtype}: a model is written in float32 or float64")
    return replace(options, dtype=dtype.name)


def _with_sizes(options: Sized) -> Sized:
    """The options with Python's own numbers as sizes, whatever numbers are given. Raises UsageError below 1."""
    for name, shape in (options.input_shapes or {}).items():
        if not all(isinstance(size, Integral) and size > 0 for size in shape):
            raise UsageError(f"input '{name}' cannot have the shape {tuple(shape)}: sizes are positive numbers")
    if options.batch is not None and options.batch < 1:
        raise UsageError(f"a batch of {options.batch}: it must be 1 or more")
    if options.batch is None and not options.input_shapes:
        return options
    batch = None if options.batch is None else int(options.batch)
    shapes = {name: tuple(map(int, shape)) for name, shape in (options.input_shapes or {}).items()}
    return replace(options, batch=batch, input_shapes=shapes or options.input_shapes)


def require_type(name: str, value: object, types: str) -> None:
    """Stop at a value that is of none of the types, which are written as in an annotation: `"str | None"`.

    Raises:
        UsageError: with the name of what was given.
    """
    words = types.split(" | ")
    if any(_is_a(value, word) for word in words):
        return
    known = [said for word in words for said in (map(repr, CHOICES[word]) if word in CHOICES else [word])]
    wanted = " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))
    shown = f" {value!r:.60}" if isinstance(value, str | list | tuple | Mapping) else ""
    if isinstance(value, str) and types.startswith(WORDS):
        shown += f"; give a list, [{value!r:.60}]"
    raise UsageError(f"{name} takes {wanted}, and not {type(value).__name__}{shown}")


def _is_a(value: object, word: str) -> bool:
    """Whether a value is of the type of that name, as far as that can be told by looking at it alone."""
    if word in CHOICES:
        return isinstance(value, str) and value in CHOICES[word]
    if word in TYPES:
        return TYPES[word](value)
    return word in (kind.__name__ for kind in type(value).__mro__)  # a record, whose module is not needed for that


def _are_words(value: object) -> bool:
    """Whether these are several words: one alone would be taken for its letters, and an iterator is read but once."""
    items = _items(value)
    if items is None:
        return isinstance(value, Iterable) and not isinstance(value, Collection) and not hasattr(value, "read")
    return all(isinstance(one, str) for one in items)


def _is_float(value: object) -> bool:
    """Whether this is a number that a float can hold, as 10**400 is none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and isinstance(float(value), float)
    except OverflowError:
        return False


def _items(value: object) -> list[object] | None:
    """What a collection holds, None for what is none: letters are no items, and numpy's scalars have none."""
    if isinstance(value, str) or not isinstance(value, Collection):
        return None
    try:
        return list(value)
    except TypeError:
        return None


WORDS = ("Iterable[str]", "Sequence[str]")
CHOICES: dict[str, tuple[str, ...]] = {
    "BatchNormLayout": get_args(BatchNormLayout),
    "CropOffset": get_args(CropOffset),
    "Dialect": get_args(Dialect),
    "ZeroScaleFactor": get_args(ZeroScaleFactor),
}
TYPES: dict[str, Callable[[object], bool]] = {
    "Mapping[str, Sequence[int]]": lambda value: (
        isinstance(value, Mapping) and _are_words(value) and all(_items(sizes) is not None for sizes in value.values())
    ),
    "Mapping[str, str]": lambda value: isinstance(value, Mapping) and _are_words([*value, *value.values()]),
    "None": lambda value: value is None,
    **dict.fromkeys(WORDS, _are_words),
    # A word and a list are true whatever they say, an array is neither, None says nothing, and 2.5 is something else.
    "bool": lambda value: hasattr(value, "__bool__") and not hasattr(value, "__len__") and value in (0, 1),
    "float": _is_float,
    "int": lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    "npt.DTypeLike": lambda _: True,
    "os.PathLike[str]": lambda value: isinstance(value, os.PathLike),
    "str": lambda value: isinstance(value, str),
}


TEXT = (".prototxt", ".pbtxt", ".txt")  # endings by which a file says what it is
WEIGHTS = (".caffemodel", ".h5")
