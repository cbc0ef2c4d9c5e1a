"""The union of the Caffe dialects: reads the two fact tables and decides name, type, default and number of each field.

Names are what counts, because prototxts are text. So the union is made by field name within a message, and by value
name within an enum. Where dialects disagree, the tables at the foot of this file say what was chosen, and why; a
disagreement that they do not list is an error, so that new facts cannot slip in undecided.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
REFERENCE = "bvlc"  # the dialect whose numbers, labels and defaults win
RENUMBERED_FROM = 10_000  # a field that loses its number n becomes 10000 + n, or 20000 + n, ...
RESERVED = range(19_000, 20_000)  # protobuf keeps these field numbers for itself
SCALARS = {"bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of schema.tsv: how some dialects declare one field."""

    message: str
    name: str
    number: int
    label: str
    type: str
    packed: bool
    default: str
    dialects: tuple[str, ...]


@dataclass(slots=True)
class Numbered:
    """A field or an enum value: its number in the union, and `real`, the number that each dialect gives it."""

    name: str
    real: dict[str, int]
    number: int = 0

    @property
    def usual_number(self) -> int:
        """The reference's number, else the most widespread one; the first dialect breaks a tie."""
        if REFERENCE in self.real:
            return self.real[REFERENCE]
        numbers = list(self.real.values())
        return max(dict.fromkeys(numbers), key=numbers.count)

    @property
    def elsewhere(self) -> dict[str, int]:
        """The dialects whose number is not the union's."""
        return {dialect: number for dialect, number in self.real.items() if number != self.number}


@dataclass(slots=True)
class Field(Numbered):
    """A field of the union. `types` and `defaults` hold what single dialects say otherwise."""

    label: str = "optional"
    type: str = ""
    packed: bool = False
    default: str = ""
    types: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Enum:
    """An enum of the union; `name` is qualified by its message, as in `PoolingParameter.PoolMethod`."""

    name: str
    values: list[Numbered]


@dataclass(slots=True)
class Message:
    """A message of the union, with its fields in the order of their numbers."""

    name: str
    fields: list[Field]


@dataclass(slots=True)
class Union:
    """The whole schema: dialects in order, messages and enums by qualified name, in the order of the facts."""

    dialects: tuple[str, ...]
    messages: dict[str, Message]
    enums: dict[str, Enum]


def read_union(schema: Path = HERE / "schema.tsv", enums: Path = HERE / "enums.tsv") -> Union:
    """Merge the fact tables.

    Raises ValueError when dialects disagree in a way that no table of this file decides.
    """
    facts = with_bases([*read_facts(schema), *ADDED_FIELDS])
    order = dialects_of(facts)
    dialects = tuple(dialect for dialect in order if dialect not in TEXTS)
    by_message: dict[str, dict[str, list[Fact]]] = {}
    for fact in facts:
        by_message.setdefault(fact.message, {}).setdefault(fact.name, []).append(fact)
    messages = {name: merge_message(name, fields, order) for name, fields in by_message.items()}
    merged_enums = merge_enums(enums)
    undefined = {fact.type for fact in facts} - SCALARS - messages.keys() - merged_enums.keys()
    if undefined != UNDEFINED.keys():
        raise ValueError(f"types without a definition are {sorted(undefined)}, but UNDEFINED lists {sorted(UNDEFINED)}")
    for name in sorted(UNDEFINED):
        messages[name] = Message(name, [])
    return Union(dialects, messages, merged_enums)


def read_facts(path: Path) -> list[Fact]:
    """The rows of schema.tsv."""
    with path.open(newline="") as file:
        return [
            Fact(
                message=row["message"],
                name=row["field"],
                number=int(row["number"]),
                label=row["label"],
                type=row["type"],
                packed=row["packed"] == "packed",
                default=row["default"],
                dialects=tuple(row["dialects"].split(",")),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


def with_bases(facts: list[Fact]) -> list[Fact]:
    """The same rows, where the dialects that the facts know only by what they added have their base's fields too.

    A base's field that such a dialect declares otherwise, or whose number it gave away, is left out. A message that the
    base has not and that one of its own fields has for a type is that of the forks it was taken from.
    """
    own: dict[str, set[tuple[str, str]]] = {dialect: set() for dialect in BASES}
    numbers: dict[str, set[tuple[str, int]]] = {dialect: set() for dialect in BASES}
    for fact in facts:
        for dialect in BASES.keys() & set(fact.dialects):
            own[dialect].add((fact.message, fact.name))
            numbers[dialect].add((fact.message, fact.number))
    rows = []
    messages = {base: {fact.message for fact in facts if base in fact.dialects} for base in BASES.values()}
    taken = {dialect: {fact.type for fact in facts if dialect in fact.dialects} for dialect in BASES}
    for fact in facts:
        heirs = []
        for dialect, base in BASES.items():
            # A message that the base lacks is the reference's, else that of the first who has it.
            borrowed = fact.message in taken[dialect] - messages[base] and TEXTS.isdisjoint(fact.dialects)
            if borrowed and fact.message in messages[REFERENCE]:
                borrowed = REFERENCE in fact.dialects
            if (
                (base in fact.dialects or borrowed)
                and (fact.message, fact.name) not in own[dialect]
                and (fact.message, fact.number) not in numbers[dialect]
            ):
                heirs.append(dialect)
                if borrowed:
                    numbers[dialect].add((fact.message, fact.number))
        rows.append(replace(fact, dialects=(*fact.dialects, *heirs)))
    return rows


def dialects_of(facts: Iterable[Fact]) -> tuple[str, ...]:
    """All dialects, in the order in which they appear."""
    return tuple(dict.fromkeys(dialect for fact in facts for dialect in fact.dialects))


def merge_message(name: str, facts: Mapping[str, list[Fact]], dialects: tuple[str, ...]) -> Message:
    """One message out of all dialects' messages of that name."""
    fields = [merge_field(rows, dialects) for rows in facts.values()]
    assign_numbers(fields, dialects)
    return Message(name, sorted(fields, key=lambda each: each.number))


def merge_field(rows: list[Fact], dialects: tuple[str, ...]) -> Field:
    """One field out of its declarations; the reference's declaration leads, else the most widespread one."""
    lead = max(rows, key=lambda row: (REFERENCE in row.dialects, len(row.dialects)))
    labels = {"optional" if row.label == "required" else row.label for row in rows}
    types = {row.type for row in rows}
    if len(labels) == len(types) == 1:
        label, type_ = labels.pop(), types.pop()
    elif (lead.message, lead.name) in DECIDED:
        label, type_, _ = DECIDED[lead.message, lead.name]
    else:
        raise ValueError(
            f"{lead.message}.{lead.name}: dialects disagree ({labels} {types}) and DECIDED has no row for it"
        )
    real = {dialect: row.number for row in rows for dialect in row.dialects}
    return Field(
        name=lead.name,
        real={dialect: real[dialect] for dialect in dialects if dialect in real},
        label=label,
        type=type_,
        packed=any(row.packed for row in rows),
        default=lead.default if label == "optional" else "",
        types={dialect: row.type for row in rows for dialect in row.dialects if row.type != type_},
        defaults={
            dialect: row.default or "none" for row in rows for dialect in row.dialects if row.default != lead.default
        },
    )


def merge_enums(path: Path) -> dict[str, Enum]:
    """The enums by name, each the union of its values by name."""
    real: dict[str, dict[str, dict[str, int]]] = {name: {} for name in ADDED_ENUMS}
    with path.open(newline="") as file:
        rows = [
            (row["enum"], row["values"], row["dialects"].split(",")) for row in csv.DictReader(file, delimiter="\t")
        ]
    rows += [(name, *row) for name, row in ADDED_ENUMS.items()]
    dialects = tuple(dict.fromkeys([*(dialect for _, _, some in rows for dialect in some), *BASES]))
    for name, values, some in rows:
        for value in values.split():
            value_name, number = value.split("=")
            real.setdefault(name, {}).setdefault(value_name, {}).update(dict.fromkeys(some, int(number)))
    for numbers in real.values():
        for heir, base in BASES.items():
            own = {number[heir] for number in numbers.values() if heir in number}
            for number in numbers.values():
                if base in number and number[base] not in own:
                    number.setdefault(heir, number[base])
    enums = {}
    for name, numbers in real.items():
        values_ = [Numbered(value, {d: real_[d] for d in dialects if d in real_}) for value, real_ in numbers.items()]
        assign_numbers(values_, dialects)
        enums[name] = Enum(name, values_)
    return enums


def assign_numbers(members: Iterable[Numbered], dialects: tuple[str, ...]) -> None:
    """Give every member its usual number, if it wins it; the others get a number that no dialect uses."""

    def claim(member: Numbered) -> tuple[bool, int, int]:
        users = [dialect for dialect, number in member.real.items() if number == member.usual_number]
        return REFERENCE not in users, -len(users), dialects.index(users[0])

    members = sorted(members, key=claim)
    taken = {number for member in members for number in member.real.values()}
    owners: dict[int, Numbered] = {}
    for member in members:
        member.number = member.usual_number
        while owners.setdefault(member.number, member) is not member:
            member.number += RENUMBERED_FROM
            while member.number in taken or member.number in RESERVED:
                member.number += RENUMBERED_FROM


# Dialects that the facts list with what they added alone, and the Caffe that each of them forked.
BASES = {
    "soeaver": "bvlc",
    "synopsys": "ssd",
    "flownet2": "bvlc",
    "ducha": "bvlc",
    "openvino": "ssd",
    "pull3057": "bvlc",
    "genet": "bvlc",
    "gait": "bvlc",
    "pvanet": "bvlc",
    "brocolli": "ssd",
}
# What texts alone tell: no file is known to have these numbers.
TEXTS = frozenset({"texts", "c3d"})

# (message, field): label, type, why. A `required` of some dialect needs no row: the union has no required field, since
# one dialect's demand would refuse another's file; readers say themselves what they miss.
DECIDED = {
    ("LayerParameter", "relu6_param"): (
        "optional",
        "ReLUParameter",
        "three messages for one layer; ReLUParameter has the fields of all three (negative_slope, engine)",
    ),
    ("LayerParameter", "selu_dropout_param"): (
        "optional",
        "SeLuDropoutParameter",
        "two messages with the same fields",
    ),
    ("LayerParameter", "selu_param"): (
        "optional",
        "SeLuParameter",
        "two messages with the same fields and defaults",
    ),
    ("TransformationParameter", "resize_param"): (
        "repeated",
        "ResizeParameter",
        "mobilenetyolo allows several, and a repeated field reads a single one",
    ),
    ("UpsampleParameter", "scale"): (
        "optional",
        "float",
        "ti allows 1.5, and a float reads the whole numbers of the others (write 2, not 2.0: they cannot read that)",
    ),
    ("V1LayerParameter", "relu6_param"): (
        "optional",
        "ReLUParameter",
        "two messages for one layer; ReLUParameter has the fields of both",
    ),
}

# Types that fields use but the facts do not define. They stay empty messages: their content is kept as unknown fields
# in a binary, and is an error in a text.
UNDEFINED = {
    "AxpyParameter": "Axpy has no parameters",
    "SolverBatchSizePair": "part of intel's training schedule",
    "SparseToDenseParameter": "synopsys' layer is not among the facts",
    "SpatialBatchingPoolingParameter": "synopsys' layer is not among the facts",
}


def _parameters(dialect: str, *rows: tuple[str, int, str]) -> list[Fact]:
    """The parameters of layer types in one dialect, each as (field without `_param`, number, message)."""
    return [
        Fact("LayerParameter", f"{name}_param", number, "optional", f"{message}Parameter", False, "", (dialect,))
        for name, number, message in rows
    ]


def _fields(dialect: str, *rows: tuple[str, str, int, str, str, str]) -> list[Fact]:
    """Fields of parameters in one dialect, as (message without `Parameter`, field, number, label, type, default)."""
    return [
        Fact(f"{message}Parameter", name, number, label, kind, False, default, (dialect,))
        for message, name, number, label, kind, default in rows
    ]


# What the facts leave out and reading a net needs. Numbers from 30000 on are ours: the layer is known by texts alone.
ADDED_FIELDS = (
    # Several forks have the layer and agree about it; this number is the one of wj1tr0y's gait extractor. The others
    # call the same factor by other names; `scale` is its square.
    Fact("LayerParameter", "pixel_shuffle_param", 888, "optional", "PixelShuffleParameter", False, "", ("gait",)),
    Fact("PixelShuffleParameter", "upscale_factor", 1, "optional", "uint32", False, "", ("gait",)),
    Fact("PixelShuffleParameter", "sigma", 30001, "optional", "uint32", False, "", ("texts",)),
    Fact("PixelShuffleParameter", "scale", 30002, "optional", "uint32", False, "", ("texts",)),
    Fact("LayerParameter", "pixelshuffle_param", 30001, "optional", "PixelShuffleParameter", False, "", ("texts",)),
    # The forks of DenseNet and SENet have it from BVLC's pull request 3057; later it became round_mode.
    Fact("PoolingParameter", "ceil_mode", 13, "optional", "bool", False, "true", ("pull3057",)),
    # Synopsys' BatchNorm, whose place for eps the facts name without the field; the number is that of its own files.
    Fact("BatchNormParameter", "add_eps_before_sqrt", 4, "optional", "bool", False, "true", ("synopsys",)),
    # Likewise Synopsys' ReduceMean, which is declared as its other reductions are.
    Fact("LayerParameter", "reduce_mean_param", 231, "optional", "ReduceMeanParameter", False, "", ("synopsys",)),
    Fact("ReduceMeanParameter", "axis", 1, "repeated", "int32", False, "", ("synopsys",)),
    Fact("ReduceMeanParameter", "keepdims", 2, "optional", "bool", False, "false", ("synopsys",)),
    # Two of Synopsys' layers whose parameters the facts name without their fields: from its caffe.proto.
    Fact("BatchToSpaceNDParameter", "block_shape", 1, "repeated", "uint32", False, "", ("synopsys",)),
    Fact("BatchToSpaceNDParameter", "crops", 2, "repeated", "uint32", False, "", ("synopsys",)),
    Fact("SpaceToBatchNDParameter", "block_shape", 1, "repeated", "uint32", False, "", ("synopsys",)),
    Fact("SpaceToBatchNDParameter", "paddings", 2, "repeated", "uint32", False, "", ("synopsys",)),
    # liu2bao's BN, which is ducha-aiki's.
    Fact("BNParameter", "decay_exma", 30001, "optional", "float", False, "0", ("texts",)),
    # hujie-frank's GENet, whose BatchNorm on the GPU is a layer of its own.
    Fact("LayerParameter", "cudnn_batch_norm_param", 200, "optional", "CuDNNBatchNormParameter", False, "", ("genet",)),
    Fact("CuDNNBatchNormParameter", "frozen", 1, "optional", "bool", False, "false", ("genet",)),
    Fact("CuDNNBatchNormParameter", "momentum", 2, "optional", "float", False, "0.999", ("genet",)),
    Fact("CuDNNBatchNormParameter", "eps", 3, "optional", "float", False, "1e-05", ("genet",)),
    Fact("CuDNNBatchNormParameter", "scale_filler", 4, "optional", "FillerParameter", False, "", ("genet",)),
    Fact("CuDNNBatchNormParameter", "bias_filler", 5, "optional", "FillerParameter", False, "", ("genet",)),
    # DeepLab's word for the dilation, from before BVLC's Caffe had one; the number differs from fork to fork.
    *(
        Fact("ConvolutionParameter", name, 30004 + number, "optional", "uint32", False, "1", ("texts",))
        for number, name in enumerate(("hole", "hole_h", "hole_w"))
    ),
    # C3D's Convolution3D and Pooling3D: a depth beside the plane, in fields of their own.
    Fact("LayerParameter", "convolution3d_param", 30003, "optional", "ConvolutionParameter", False, "", ("c3d",)),
    *(
        Fact(message, name, 30000 + number, "optional", "uint32", False, default, ("c3d",))
        for message in ("ConvolutionParameter", "PoolingParameter", "Pooling3DParameter")
        for number, (name, default) in enumerate(
            (("kernel_depth", ""), ("temporal_stride", "1"), ("temporal_pad", "0")), start=1
        )
    ),
    # VideoData of C3D and of Temporal Segment Networks (video_data_layer.cpp); their numbers differ from fork to fork.
    Fact("ImageDataParameter", "new_length", 30001, "optional", "uint32", False, "1", ("c3d",)),
    *(
        Fact("VideoDataParameter", name, 30000 + number, "optional", kind, False, default, ("texts",))
        for number, (name, kind, default) in enumerate(
            (
                ("new_length", "uint32", "1"),
                ("new_height", "uint32", "0"),
                ("new_width", "uint32", "0"),
                ("num_segments", "uint32", "1"),
                ("modality", "VideoDataParameter.Modality", ""),
            ),
            start=1,
        )
    ),
    # CRNN's layers for sequences.
    Fact("LayerParameter", "transpose_param", 30004, "optional", "TransposeParameter", False, "", ("texts",)),
    Fact("TransposeParameter", "dim", 1, "repeated", "int32", False, "", ("texts",)),
    Fact(
        "LayerParameter",
        "continuation_indicator_param",
        30005,
        "optional",
        "ContinuationIndicatorParameter",
        False,
        "",
        ("texts",),
    ),
    Fact("ContinuationIndicatorParameter", "time_step", 1, "optional", "uint32", False, "0", ("texts",)),
    Fact("ContinuationIndicatorParameter", "batch_size", 2, "optional", "uint32", False, "0", ("texts",)),
    # Four layers of one name, told apart by their fields.
    Fact("LayerParameter", "padding_param", 30006, "optional", "PaddingParameter", False, "", ("texts",)),
    *(
        Fact("PaddingParameter", name, 30000 + number, "optional", "uint32", False, "0", ("texts",))
        for number, name in enumerate(
            (
                "pad",
                "pad_h",
                "pad_w",
                "pad_h_top",
                "pad_h_bottom",
                "pad_w_left",
                "pad_w_right",
                "pad_t",
                "pad_l",
                "pad_b",
                "pad_r",
                "pad_up",
                "pad_down",
                "pad_left",
                "pad_right",
            ),
            start=1,
        )
    ),
    Fact("PaddingParameter", "pad_to_power_of_2", 30016, "optional", "bool", False, "false", ("texts",)),
    Fact("PaddingParameter", "pad_value", 30017, "optional", "float", False, "0", ("texts",)),
    Fact("PaddingParameter", "pad_method", 30018, "optional", "PaddingParameter.Method", False, "", ("texts",)),
    Fact("PaddingParameter", "type", 30019, "optional", "PaddingParameter.Method", False, "", ("texts",)),
    # Fields of the union that these forks have under numbers of their own: from their caffe.proto, and their files.
    *_parameters(
        "synopsys",
        ("bn", 45, "BN"),
        ("swish", 147, "Swish"),
        ("interp", 163, "Interp"),
        ("shuffle_channel", 166, "ShuffleChannel"),
        ("dense_crf", 176, "DenseCRF"),
        ("upsample", 177, "Upsample"),
        ("reorg", 197, "Reorg"),
        ("proposal", 212, "Proposal"),
        ("roi_align", 247, "ROIAlign"),
        ("clip", 248, "Clip"),
        ("roi_pooling", 8266711, "ROIPooling"),
        ("smooth_l1_loss", 8266712, "SmoothL1Loss"),
    ),
    *_parameters(
        "soeaver",
        ("roi_pooling", 147, "ROIPooling"),
        ("psroi_pooling", 148, "PSROIPooling"),
        ("smooth_l1_loss", 150, "SmoothL1Loss"),
        ("interp", 20001, "Interp"),
        ("dense_crf", 20002, "DenseCRF"),
    ),
    *_parameters(
        "pvanet",
        ("roi_pooling", 8266711, "ROIPooling"),
        ("smooth_l1_loss", 8266712, "SmoothL1Loss"),
        ("proposal", 8266713, "Proposal"),
    ),
    # The Caffe that the converter brocolli writes for (inisis/brocolli-caffe, version 9).
    *_parameters(
        "brocolli",
        ("psroi_pooling", 149, "PSROIPooling"),
        ("upsample", 500, "Upsample"),
        ("hardsigmoid", 501, "HardSigmoid"),
        ("relu6", 503, "ReLU6"),
        ("pixelshuffle", 507, "PixelShuffle"),
        ("proposal", 1000, "Proposal"),
        ("bn", 1111, "BN"),
    ),
    *_fields(
        "brocolli",
        ("BN", "slope_filler", 1, "optional", "FillerParameter", ""),
        ("BN", "bias_filler", 2, "optional", "FillerParameter", ""),
        ("BN", "momentum", 3, "optional", "float", "0.9"),
        ("BN", "eps", 4, "optional", "float", "1e-5"),
        ("BN", "frozen", 5, "optional", "bool", "false"),
        ("HardSigmoid", "alpha", 1, "optional", "float", "0.2"),
        ("HardSigmoid", "beta", 2, "optional", "float", "0.5"),
        ("PixelShuffle", "upscale_factor", 1, "optional", "uint32", ""),
        ("Pooling", "ceil_mode", 13, "optional", "bool", "true"),
        ("PSROIPooling", "spatial_scale", 1, "optional", "float", ""),
        ("PSROIPooling", "output_dim", 2, "optional", "int32", ""),
        ("PSROIPooling", "group_size", 3, "optional", "int32", ""),
        ("Upsample", "scale", 1, "optional", "int32", "1"),
    ),
    # The bound of its ReLU6, in a message of that name; its converter writes no engine, which is 2 in ReLUParameter.
    Fact("ReLUParameter", "threshold", 2, "optional", "float", False, "6", ("brocolli",)),
    # Vitis' Caffe as it was published (Xilinx/Vitis-AI, AI-Model-Zoo/caffe-xilinx); the facts are of an older one.
    *_parameters(
        "vitis",
        ("reorg", 149, "Reorg"),
        ("yolo_eval_detection", 208, "YoloEvalDetection"),
        ("deephi_resize", 1202, "DeephiResize"),
        ("gs_tiling", 1300, "GSTiling"),
        ("densebox_map_evaluation", 1301, "DenseboxMapEvaluation"),
        ("reshape_label", 1302, "ReshapeLabel"),
        ("alignment_accuracy", 1400, "AlignmentAccuracy"),
        ("center_loss", 1470, "CenterLoss"),
    ),
    *_fields(
        "vitis",
        ("AlignmentAccuracy", "ref_start", 1, "repeated", "uint32", ""),
        ("AlignmentAccuracy", "ref_end", 2, "repeated", "uint32", ""),
        ("AlignmentAccuracy", "accuracy_for_each_point", 3, "optional", "bool", "false"),
        ("AlignmentAccuracy", "threshold", 4, "optional", "float", "0.5"),
        ("AnnotatedData", "has_seg_label", 4, "optional", "bool", "false"),
        ("AnnotatedData", "has_lane_label", 5, "optional", "bool", "false"),
        ("AnnotatedData", "tiling_width", 6, "optional", "int32", "20"),
        ("AnnotatedData", "tiling_height", 7, "optional", "int32", "15"),
        ("AnnotatedData", "label_resolution", 8, "optional", "int32", "8"),
        ("AnnotatedData", "catalog_resolution", 9, "optional", "int32", "4"),
        ("AnnotatedData", "shrink_prob_factor", 10, "optional", "float", "1"),
        ("CenterLoss", "num_output", 1, "optional", "uint32", ""),
        ("CenterLoss", "center_filler", 2, "optional", "FillerParameter", ""),
        ("CenterLoss", "axis", 3, "optional", "int32", "1"),
        ("DeephiResize", "resize_type", 1, "optional", "DeephiResizeParameter.ResizeType", "NEAREST"),
        ("DeephiResize", "scale_h", 2, "optional", "float", "1"),
        ("DeephiResize", "scale_w", 3, "optional", "float", "1"),
        ("DeephiResize", "new_height", 4, "optional", "uint32", ""),
        ("DeephiResize", "new_width", 5, "optional", "uint32", ""),
        ("DeephiResize", "use_dpu", 6, "optional", "bool", "false"),
        ("DenseboxMapEvaluation", "channel_axes", 1, "optional", "int32", "1"),
        ("DenseboxMapEvaluation", "nms_threshold", 2, "optional", "float", "0.3"),
        ("DenseboxMapEvaluation", "conf_threshold", 3, "optional", "float", "0.05"),
        ("DenseboxMapEvaluation", "iou_threshold", 4, "optional", "float", "0.5"),
        ("DetectionOutput", "has_segmap", 13, "optional", "bool", "false"),
        ("Fixed", "follow_data_layer", 6, "optional", "bool", "false"),
        ("GSTiling", "stride", 1, "optional", "int32", ""),
        ("GSTiling", "reverse", 2, "optional", "bool", "false"),
        ("ImageData", "is_unchanged", 14, "optional", "bool", "false"),
        ("ImageData", "label_type", 15, "optional", "ImageDataParameter.LabelType", "IMAGE"),
        ("ImageData", "ignore_label", 16, "optional", "int32", "255"),
        ("Loss", "weight_by_label_freqs", 4, "optional", "bool", "false"),
        ("Loss", "class_weighting", 5, "repeated", "float", ""),
        ("MultiBoxLoss", "ori_flag", 25, "optional", "bool", "false"),
        ("ReshapeLabel", "full_label_size", 1, "optional", "int32", "80"),
        ("Transformation", "yolo_height", 19, "optional", "uint32", "0"),
        ("Transformation", "yolo_width", 20, "optional", "uint32", "0"),
        ("YoloEvalDetection", "side", 1, "optional", "uint32", "7"),
        ("YoloEvalDetection", "num_class", 2, "optional", "uint32", "20"),
        ("YoloEvalDetection", "num_object", 3, "optional", "uint32", "2"),
        ("YoloEvalDetection", "threshold", 4, "optional", "float", "0.5"),
        ("YoloEvalDetection", "sqrt", 5, "optional", "bool", "true"),
        ("YoloEvalDetection", "constriant", 6, "optional", "bool", "true"),
        ("YoloEvalDetection", "score_type", 7, "optional", "YoloEvalDetectionParameter.ScoreType", "MULTIPLY"),
        ("YoloEvalDetection", "nms", 8, "optional", "float", "-1"),
        ("YoloEvalDetection", "biases", 9, "repeated", "float", ""),
    ),
    Fact("LayerParameter", "bn_param", 202, "optional", "BNParameter", False, "", ("ducha",)),
    *(
        Fact("BNParameter", f"{name}_filler", number, "optional", "FillerParameter", False, "", dialects)
        for name, number, dialects in (
            ("scale", 1, ("ducha", "synopsys")),
            ("shift", 2, ("ducha", "synopsys")),
            ("slope", 7, ("synopsys",)),
            ("bias", 8, ("synopsys",)),
        )
    ),
    Fact("BNParameter", "momentum", 9, "optional", "float", False, "0.9", ("synopsys",)),
    Fact("BatchNormParameter", "update_global_stats", 6, "optional", "bool", False, "true", ("synopsys",)),
    Fact("BatchNormParameter", "icnet", 7, "optional", "bool", False, "false", ("synopsys",)),
    Fact("DropoutParameter", "sample_weights_test", 2, "optional", "bool", False, "false", ("synopsys",)),
    Fact("DropoutParameter", "scale_train", 3, "optional", "bool", False, "true", ("synopsys",)),
    *(
        Fact("ProposalParameter", name, number, "optional", "uint32", False, default, dialects)
        for name, number, default, dialects in (
            ("feat_stride", 1, "16", ("synopsys", "pvanet")),
            ("pre_nms_topn", 6, "6000", ("synopsys", "pvanet")),
            ("base_size", 2, "16", ("pvanet",)),
            ("min_size", 3, "16", ("pvanet",)),
            ("post_nms_topn", 7, "300", ("pvanet",)),
        )
    ),
    *(
        Fact("ProposalParameter", name, number, "repeated", "float", False, "", ("pvanet",))
        for name, number in (("ratio", 4), ("scale", 5))
    ),
    Fact("ProposalParameter", "nms_thresh", 8, "optional", "float", False, "0.7", ("pvanet",)),
    # DeepLab's first Caffe (net.cpp): whether a layer's weights must have its shapes, or as many values.
    Fact("V1LayerParameter", "strict_dim", 30001, "optional", "bool", False, "true", ("texts",)),
    # MS-CNN's ROIPooling (zhaoweicai/mscnn) pools what is around a region, too.
    Fact("ROIPoolingParameter", "pad_ratio", 30001, "optional", "float", False, "0", ("texts",)),
    # GradientScaler of ddtm/caffe and its forks, whose number differs from fork to fork.
    *_parameters("texts", ("gradient_scaler", 30010, "GradientScaler")),
    *(
        Fact("GradientScalerParameter", name, number, "optional", kind, False, default, ("texts",))
        for number, (name, kind, default) in enumerate(
            (
                ("lower_bound", "float", "0"),
                ("upper_bound", "float", "1"),
                ("alpha", "float", "10"),
                ("max_iter", "float", "1"),
                ("threshold_iter", "int32", "0"),
            ),
            start=1,
        )
    ),
    # NdConvolution and NdPooling of BVLC's pull request 3983 and of video-caffe; the numbers are ours.
    *(
        Fact(message, f"{name}_shape", 30011 + number, "optional", "BlobShape", False, "", ("texts",))
        for message in ("ConvolutionParameter", "PoolingParameter")
        for number, name in enumerate(("kernel", "stride", "pad"))
    ),
    # How cuDNN convolves in jolibrain's Caffe, as DeepDetect's nets say it; the number is ours.
    Fact(
        "ConvolutionParameter", "cudnn_flavor", 30010, "optional", "ConvolutionParameter.Flavor", False, "", ("texts",)
    ),
    # Upsample of caffe_plus, whose nets the converters from ONNX write; it numbers them as SegNet's Caffe does others.
    *(
        Fact("UpsampleParameter", name, 30000 + number, "optional", kind, False, default, ("texts",))
        for number, (name, kind, default) in enumerate(
            (
                ("height", "int32", "32"),
                ("width", "int32", "32"),
                ("height_scale", "int32", "2"),
                ("width_scale", "int32", "2"),
                ("mode", "UpsampleParameter.UpsampleOp", "BILINEAR"),
            ),
            start=1,
        )
    ),
    # Flip of happynear's Caffe and its forks (flip_layer.cpp), whose number differs; Dtow of RealSR (dtow_layer.cpp).
    *_parameters("texts", ("flip", 30030, "Flip"), ("dtow", 30031, "Dtow")),
    Fact("FlipParameter", "flip_width", 1, "optional", "bool", False, "true", ("texts",)),
    Fact("FlipParameter", "flip_height", 2, "optional", "bool", False, "false", ("texts",)),
    Fact("DtowParameter", "method", 1, "optional", "DtowParameter.Method", False, "MDTOW", ("texts",)),
    Fact("DtowParameter", "psize", 2, "optional", "uint32", False, "2", ("texts",)),
    # Parameter of happynear's Caffe and its forks (parameter_layer.hpp) fills what it has not learned yet.
    Fact("ParameterParameter", "blob_filler", 30001, "optional", "FillerParameter", False, "", ("texts",)),
    # ChannelwiseAffine of ducha-aiki's pull request to BVLC (channelwise_affine_layer.cpp): EltwiseAffine's first name.
    # CReLU of Cambricon's Caffe and caffe_pushpush (crelu_layer.cpp). The numbers are ours.
    *_parameters("texts", ("channelwise_affine", 30040, "ChannelwiseAffine"), ("crelu", 30041, "CReLU")),
    Fact("ChannelwiseAffineParameter", "slope_filler", 1, "optional", "FillerParameter", False, "", ("texts",)),
    Fact("ChannelwiseAffineParameter", "bias_filler", 2, "optional", "FillerParameter", False, "", ("texts",)),
    Fact("ChannelwiseAffineParameter", "channel_shared", 3, "optional", "bool", False, "false", ("texts",)),
    Fact("CReLUParameter", "negative_slope", 1, "optional", "float", False, "0", ("texts",)),
    Fact("CReLUParameter", "concat_axis", 2, "optional", "int32", False, "1", ("texts",)),
    # BatchReduction of yjxiong's Caffe and of what came of it (PSPNet's). The numbers are ours.
    *_parameters("texts", ("batch_reduction", 30042, "BatchReduction")),
    Fact("BatchReductionParameter", "level", 1, "repeated", "int32", False, "", ("texts",)),
    Fact("BatchReductionParameter", "reduction_param", 2, "optional", "ReductionParameter", False, "", ("texts",)),
    # What else changes gradients alone, of which no published caffe.proto says the numbers.
    *_parameters("texts", ("gradient_clip", 30012, "GradientClip"), ("output_decay", 30013, "OutputDecay")),
    Fact("GradientClipParameter", "gradient_clip", 30001, "optional", "float", False, "", ("texts",)),
    # Noise of several forks, in the words of each; it is training's but for the one that has a `filler_param`.
    Fact("LayerParameter", "noise_param", 30015, "optional", "NoiseLayerParameter", False, "", ("texts",)),
    *(
        Fact("NoiseLayerParameter", name, 30000 + number, "optional", kind, False, "", ("texts",))
        for number, (name, kind) in enumerate(
            (
                *((word, "float") for word in ("gaussian_std", "uniform_range", "bias", "mean", "std_var")),
                *((word, "float") for word in ("lower", "upper", "alpha", "beta")),
                ("noise_type", "NoiseLayerParameter.NoiseType"),
                ("apply_type", "NoiseLayerParameter.ApplyType"),
                ("filler_param", "FillerParameter"),
            ),
            start=1,
        )
    ),
    Fact("OutputDecayParameter", "output_decay", 30001, "optional", "float", False, "", ("texts",)),
    Fact("OutputDecayParameter", "regularization_type", 30002, "optional", "string", False, "", ("texts",)),
    # Agostinelli's adaptive piecewise linear units, in whose own Caffe and in others the number differs.
    *_parameters("texts", ("apl", 30014, "APL")),
    Fact("APLParameter", "sums", 30001, "optional", "uint32", False, "0", ("texts",)),
    Fact("APLParameter", "slope_filler", 30002, "optional", "FillerParameter", False, "", ("texts",)),
    Fact("APLParameter", "offset_filler", 30003, "optional", "FillerParameter", False, "", ("texts",)),
    Fact("APLParameter", "save_mem", 30004, "optional", "bool", False, "false", ("texts",)),
    # Extended-caffe's UnPooling and CTC's decoder, whose numbers differ from fork to fork.
    Fact("LayerParameter", "unpooling_param", 30008, "optional", "UnPoolingParameter", False, "", ("texts",)),
    Fact("UnPoolingParameter", "unpool", 30001, "optional", "UnPoolingParameter.Method", False, "", ("texts",)),
    *(
        Fact("UnPoolingParameter", f"out_{word}", 30002 + number, "optional", "uint32", False, "", ("texts",))
        for number, word in enumerate(
            ["kernel_size", "kernel_h", "kernel_w", "stride", "stride_h", "stride_w", "pad", "pad_h", "pad_w"]
        )
    ),
    # The Unpooling of DeconvNet's Caffe, which has these without `out_`.
    *(
        Fact("UnPoolingParameter", word, 30011 + number, "optional", "uint32", False, "", ("texts",))
        for number, word in enumerate(
            [
                *("kernel_size", "kernel_h", "kernel_w", "stride", "stride_h", "stride_w", "pad", "pad_h", "pad_w"),
                *("unpool_size", "unpool_h", "unpool_w"),
            ]
        )
    ),
    Fact("LayerParameter", "ctc_decoder_param", 30009, "optional", "CTCDecoderParameter", False, "", ("texts",)),
    Fact("CTCDecoderParameter", "blank_index", 1, "optional", "int32", False, "-1", ("texts",)),
    Fact("CTCDecoderParameter", "ctc_merge_repeated", 2, "optional", "bool", False, "true", ("texts",)),
    # Kaichun Mo's SpatialTransformer, which many forks took; 150 in most, where others have other layers.
    Fact("LayerParameter", "st_param", 30012, "optional", "SpatialTransformerParameter", False, "", ("texts",)),
    *(
        Fact("SpatialTransformerParameter", name, number, "optional", kind, False, default, ("texts",))
        for number, (name, kind, default) in enumerate(
            (
                ("transform_type", "string", "affine"),
                ("sampler_type", "string", "bilinear"),
                ("output_H", "int32", ""),
                ("output_W", "int32", ""),
                ("to_compute_dU", "bool", "true"),
                *((f"theta_{row}_{column}", "double", "") for row in (1, 2) for column in (1, 2, 3)),
            ),
            start=1,
        )
    ),
    # NormFace's Normalize, whose number differs from fork to fork; old ones have `rescale`, later ones the two others.
    Fact("LayerParameter", "normalize_param", 30011, "optional", "NormFaceParameter", False, "", ("texts",)),
    Fact("NormFaceParameter", "normalize_type", 1, "optional", "string", False, "L2", ("texts",)),
    *(
        Fact("NormFaceParameter", name, 30001 + number, "optional", "bool", False, "false", ("texts",))
        for number, name in enumerate(["rescale", "fix_gradient", "bp_norm"])
    ),
    # Convolution and InnerProduct of Dynamic Network Surgery, and of those who prune by its code otherwise.
    *_parameters("texts", ("cconvolution", 30030, "CConvolution"), ("cinner_product", 30031, "CInnerProduct")),
    *(
        Fact(f"{message}Parameter", name, 30000 + number, "optional", kind, False, "", ("texts",))
        for message in ("CConvolution", "CInnerProduct")
        for number, (name, kind) in enumerate(
            (
                ("gamma", "float"),
                ("power", "float"),
                ("c_rate", "float"),
                ("iter_stop", "float"),
                ("weight_mask_filler", "FillerParameter"),
                ("bias_mask_filler", "FillerParameter"),
                ("pruning_type", "string"),
                ("sparsity_ratio", "float"),
            ),
            start=1,
        )
    ),
    # Lstm of junhyukoh's Caffe, which CRNN's and CTPN's took without a batch size.
    *_parameters("texts", ("lstm", 30017, "Lstm")),
    *(
        Fact("LstmParameter", name, 30000 + number, "optional", kind, False, default, ("texts",))
        for number, (name, kind, default) in enumerate(
            (
                ("num_output", "uint32", "0"),
                ("clipping_threshold", "float", "0"),
                ("weight_filler", "FillerParameter", ""),
                ("bias_filler", "FillerParameter", ""),
                ("batch_size", "uint32", "1"),
            ),
            start=1,
        )
    ),
    # Local of the forks that took Caffe's pull request 1271: a convolution with a weight for each pixel.
    *_parameters("texts", ("local", 30018, "Local")),
    *(
        Fact("LocalParameter", name, 30000 + number, "optional", kind, False, default, ("texts",))
        for number, (name, kind, default) in enumerate(
            (
                ("num_output", "uint32", ""),
                ("bias_term", "bool", "true"),
                ("pad", "uint32", "0"),
                ("kernel_size", "uint32", ""),
                ("stride", "uint32", "1"),
                ("weight_filler", "FillerParameter", ""),
                ("bias_filler", "FillerParameter", ""),
            ),
            start=1,
        )
    ),
    # Normalization of several forks, of which some have a norm to choose.
    Fact("LayerParameter", "normalization_param", 30016, "optional", "NormalizationParameter", False, "", ("texts",)),
    Fact("NormalizationParameter", "norm", 30001, "optional", "NormalizationParameter.Norm", False, "", ("texts",)),
    # SSD's forks with cells that are not square.
    Fact("PriorBoxParameter", "offset_h", 30001, "optional", "float", False, "0.5", ("texts",)),
    Fact("PriorBoxParameter", "offset_w", 30002, "optional", "float", False, "0.5", ("texts",)),
    # V1 nets with a BN; the layer itself is ducha-aiki's or PSPNet's.
    Fact("V1LayerParameter", "bn_param", 30001, "optional", "BNParameter", False, "", ("texts",)),
    # A solver file may hold the net.
    Fact("SolverParameter", "net_param", 25, "optional", "NetParameter", False, "", (REFERENCE,)),
)

# enum: (values, dialects), for enums that fields use but the facts do not define.
ADDED_ENUMS = {
    "AnnotatedDatum.AnnotationType": (
        "BBOX=0",
        ["ssd", "nvcaffe017", "mobilenetyolo", "intel", "vitis", "mace", "x2paddle"],
    ),
    "ConvolutionParameter.Flavor": ("SINGLE_HANDLE=1", ["texts"]),
    "DeephiResizeParameter.ResizeType": ("BILINEAR=0 NEAREST=1", ["vitis"]),
    "DtowParameter.Method": ("MDTOW=1 MWTOD=2", ["texts"]),
    "ImageDataParameter.LabelType": ("NONE=0 IMAGE=1 PIXEL=2 BBX=3", ["vitis"]),
    "NoiseLayerParameter.ApplyType": ("ADD=0 MULTIPLY=1", ["texts"]),
    "NoiseLayerParameter.NoiseType": ("UNIFORM=0 GAUSSIAN=1", ["texts"]),
    "NormalizationParameter.Norm": ("L1=1 L2=2 L3=3", ["texts"]),
    "PaddingParameter.Method": ("CONSTANT=0 MIRROR=1", ["texts"]),
    "UnPoolingParameter.Method": ("FIXED=0 DIV=1 REP=2 MAX=3", ["texts"]),
    "UpsampleParameter.UpsampleOp": ("NEAREST=0 BILINEAR=1", ["texts"]),
    "VideoDataParameter.Modality": ("RGB=1 FLOW=2", ["texts"]),
    "YoloEvalDetectionParameter.ScoreType": ("OBJ=0 PROB=1 MULTIPLY=2", ["vitis"]),
    # Layers that were added to a V1 Caffe; the numbers are ours.
    "V1LayerParameter.LayerType": ("BN=30001 CONVOLUTION3D=30002 POOLING3D=30003 DECONVOLUTION3D=30004", ["texts"]),
}
