"""Proves that our `apache.rocketmq.v2` and the one inside the official Python SDK are the same wire.

Usage: python check_descriptors.py DESCRIPTOR_SET
DESCRIPTOR_SET is written by `cargo run --release -p apogee-proto --example descriptors -- FILE`.

Everything the SDK's package declares must be ours, alike in every fact that reaches the wire. What only we declare must
be newer than the SDK (rocketmq-python-client 5.1.2): `NEWER`, and all of admin.proto but `OLD_ADMIN`. There,
`apis/proto/tests/wire.rs` holds us to the contract's table instead. Calling newer what the SDK has is an error too.
Exit code: 0 when equal, 1 with one line per difference, 2 when called wrongly.
"""

import sys

from google.protobuf import descriptor_pb2
from rocketmq.grpc_protocol import admin_pb2, definition_pb2, service_pb2

PACKAGE = "apache.rocketmq.v2"
NEWER = {
    f"{PACKAGE}.Code.INVALID_CLIENT_PROPERTIES",
    f"{PACKAGE}.Settings.client_properties",
    f"{PACKAGE}.Settings.ClientPropertiesEntry",
}
OLD_ADMIN = {
    "file admin.proto",
    f"{PACKAGE}.Admin",
    f"{PACKAGE}.Admin.ChangeLogLevel",
    f"{PACKAGE}.ChangeLogLevelRequest",
    f"{PACKAGE}.ChangeLogLevelResponse",
}


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(sys.argv[1], "rb") as file:
        compiled = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    our_files = [file for file in compiled.file if file.package == PACKAGE]
    ours = facts(our_files)
    theirs = facts(sdk_file(module) for module in (definition_pb2, service_pb2, admin_pb2))
    newer = newer_names(our_files)

    differences = list(compare(ours, theirs, newer))
    for line in differences:
        print(line)
    print(f"{len(theirs)} facts in the SDK, {len(newer)} newer ones, {len(differences)} differences")
    return 1 if differences else 0


def sdk_file(module):
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def newer_names(our_files):
    names = facts(our_files)
    admin = facts(file for file in our_files if base_name(file) == "admin.proto")
    listed = {name for name in names if inside(name, NEWER)}
    # The old service stays old while RPCs join it: only its own name and the listed RPC are old.
    old = {name for name in admin if name in OLD_ADMIN or inside(name, OLD_ADMIN - {f"{PACKAGE}.Admin"})}
    return listed | (admin.keys() - old)


def inside(name, entries):
    """An entry stands for itself and for everything within it."""
    return any(name == entry or name.startswith(entry + ".") for entry in entries)


def compare(ours, theirs, newer):
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours:
            yield f"only in the SDK: {name} = {theirs[name]}"
        elif name not in theirs:
            if name not in newer:
                yield f"only in ours: {name} = {ours[name]}"
        elif ours[name] != theirs[name]:
            yield f"differs: {name}: ours {ours[name]}, SDK {theirs[name]}"
        elif name in newer:
            yield f"called newer, but the SDK has it: {name}"
    for entry in sorted(NEWER | OLD_ADMIN):
        if not any(inside(name, {entry}) for name in ours):
            yield f"listed here, but not in ours: {entry}"


def facts(files):
    """Qualified name -> what the wire or the generated code of an SDK can notice of it."""
    found = {}
    for file in files:
        assert file.package == PACKAGE, file.name
        found[f"file {base_name(file)}"] = file.syntax
        for message in file.message_type:
            add_message(found, file, PACKAGE, message)
        for enum in file.enum_type:
            add_enum(found, PACKAGE, enum)
        for service in file.service:
            add_service(found, service)
    return found


def base_name(file):
    return file.name.rsplit("/", 1)[-1]


def add_message(found, file, scope, message):
    name = f"{scope}.{message.name}"
    found[name] = ("message", base_name(file), "map entry" if message.options.map_entry else "")
    for field in message.field:
        found[f"{name}.{field.name}"] = (
            field.number,
            descriptor_pb2.FieldDescriptorProto.Type.Name(field.type),
            field.type_name,
            descriptor_pb2.FieldDescriptorProto.Label.Name(field.label),
            f"oneof {message.oneof_decl[field.oneof_index].name}" if field.HasField("oneof_index") else "no oneof",
            "optional" if field.proto3_optional else "",
            f"json {field.json_name or json_name(field.name)}",
            str(field.options),
        )
    for nested in message.nested_type:
        add_message(found, file, name, nested)
    for enum in message.enum_type:
        add_enum(found, name, enum)


def json_name(name):
    """What protoc derives when it leaves `json_name` out, as it does in Python modules."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def add_enum(found, scope, enum):
    name = f"{scope}.{enum.name}"
    found[name] = ("enum", "aliases" if enum.options.allow_alias else "")
    for value in enum.value:
        found[f"{name}.{value.name}"] = value.number


def add_service(found, service):
    name = f"{PACKAGE}.{service.name}"
    found[name] = "service"
    for rpc in service.method:
        found[f"{name}.{rpc.name}"] = (
            rpc.input_type,
            rpc.output_type,
            "client streams" if rpc.client_streaming else "",
            "server streams" if rpc.server_streaming else "",
        )


if __name__ == "__main__":
    sys.exit(main())
