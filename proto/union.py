"""The union of the Caffe dialects: reads the two fact tables and decides name, type, default and number of each field.

Names are what counts, because prototxts are text. So the union is made by field name within a message, and by value
name within an enum. Where dialects disagree, the tables at the foot of this file say what was chosen, and why; a
disagreement that they do not list is an error, so that new facts cannot slip in undecided.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    rows = read_facts(schema)
    dialects = dialects_of(rows)
    facts = [*rows, *ADDED_FIELDS]
    order = dialects_of(facts)
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
    dialects = tuple(dict.fromkeys(dialect for _, _, some in rows for dialect in some))
    for name, values, some in [*rows, *((name, *row) for name, row in ADDED_ENUMS.items())]:
        for value in values.split():
            value_name, number = value.split("=")
            real.setdefault(name, {}).setdefault(value_name, {}).update(dict.fromkeys(some, int(number)))
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


# (message, field): label, type, why. A `required` of some dialect needs no row: the union has no required field, since
# one dialect's demand would refuse another's file; readers say themselves what they miss.
DECIDED = {
    ("LayerParameter", "relu6_param"): (
        "optional",
        "ReLUParameter",
        "three messages for one layer; ReLUParameter has the fields of all three (negative_slope, engine)",
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
    "Datum": "a training sample, not a part of a net",
    "SolverBatchSizePair": "part of intel's training schedule",
}

# What the facts leave out and reading a net needs.
ADDED_FIELDS = (
    # soeaver's nets, by the notes beside them on how to extend BVLC's schema.
    Fact("LayerParameter", "selu_param", 161, "optional", "SeLuParameter", False, "", ("soeaver",)),
    Fact("SeLuParameter", "lambda", 1, "optional", "float", False, "1.050700987", ("soeaver",)),
    Fact("SeLuParameter", "alpha", 2, "optional", "float", False, "1.67326324", ("soeaver",)),
    # Several forks have the layer and agree about it; this number is the one of wj1tr0y's gait extractor.
    Fact("LayerParameter", "pixel_shuffle_param", 888, "optional", "PixelShuffleParameter", False, "", ("gait",)),
    Fact("PixelShuffleParameter", "upscale_factor", 1, "optional", "uint32", False, "", ("gait",)),
    # The forks of DenseNet and SENet have it from BVLC's pull request 3057; later it became round_mode.
    Fact("PoolingParameter", "ceil_mode", 13, "optional", "bool", False, "true", ("pull3057",)),
    # The Caffe that OpenVINO's detectors were trained with, by mo_caffe.proto of OpenVINO's model optimizer.
    Fact("PriorBoxParameter", "width", 14, "repeated", "float", False, "", ("openvino",)),
    Fact("PriorBoxParameter", "height", 15, "repeated", "float", False, "", ("openvino",)),
    # ducha-aiki's Caffe, for the samples that it trains with.
    Fact("ResizeParameter", "center_object", 8, "optional", "bool", False, "false", ("ducha-aiki",)),
    Fact("ResizeParameter", "max_angle", 9, "optional", "float", False, "0", ("ducha-aiki",)),
    # A solver file may hold the net.
    Fact("SolverParameter", "net_param", 25, "optional", "NetParameter", False, "", (REFERENCE,)),
)

# enum: (values, dialects), for enums that fields use but the facts do not define.
ADDED_ENUMS = {
    "AnnotatedDatum.AnnotationType": (
        "BBOX=0",
        ["ssd", "nvcaffe017", "mobilenetyolo", "intel", "vitis", "mace", "x2paddle"],
    ),
}
