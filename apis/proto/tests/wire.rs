//! `apache.rocketmq.v2` as compiled, line by line, against `tables/v2.txt`; and the totals published with that table.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

const PACKAGE: &str = "apache.rocketmq.v2";
const TABLE: &str = include_str!("tables/v2.txt");

#[test]
fn every_line_of_the_table_and_nothing_else() {
    let ours: BTreeSet<String> = lines_of_package().into_iter().collect();
    let table: BTreeSet<String> = TABLE.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();

    let missing: Vec<_> = table.difference(&ours).collect();
    let surplus: Vec<_> = ours.difference(&table).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "only in the table: {missing:#?}\nonly in ours: {surplus:#?}");
}

#[test]
fn totals() {
    let lines = lines_of_package();
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    let messages_in = |file: &str| {
        lines.iter().filter(|line| line.starts_with("message ") && line.ends_with(&format!(" {file}"))).count()
    };

    assert_eq!(messages_in("definition.proto"), 22);
    assert_eq!(messages_in("service.proto"), 43);
    assert_eq!(messages_in("admin.proto"), 41);
    assert_eq!(count("message "), 106);
    assert_eq!(count("enum "), 17);
    assert_eq!(count("rpc MessagingService."), 17);
    assert_eq!(count("rpc Admin."), 16);
    assert_eq!(count("rpc "), 33);
    assert_eq!(count("field "), 365);
    assert_eq!(count("value "), 128);
    assert_eq!(count("value Code."), 54);
}

#[test]
fn files_are_plain_proto3() {
    for file in files_of_package() {
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
        assert!(file.extension.is_empty(), "{} declares extensions", file.name());
        for message in &file.message_type {
            assert!(message.reserved_range.is_empty() && message.reserved_name.is_empty(), "{}", message.name());
            for field in &message.field {
                assert_eq!(field.options, None, "{}.{}", message.name(), field.name());
            }
        }
    }
}

fn files_of_package() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(apogee_proto::DESCRIPTORS).expect("the build script encoded it");
    set.file.into_iter().filter(|file| file.package() == PACKAGE).collect()
}

fn lines_of_package() -> Vec<String> {
    let mut lines = Vec::new();
    for file in files_of_package() {
        file.message_type.iter().for_each(|message| write_message(&mut lines, &file, "", message));
        file.enum_type.iter().for_each(|of| write_enum(&mut lines, "", of));
        file.service.iter().for_each(|service| write_service(&mut lines, service));
    }
    lines
}

fn write_message(lines: &mut Vec<String>, file: &FileDescriptorProto, outer: &str, message: &DescriptorProto) {
    let name = format!("{outer}{}", message.name());
    let base_name = file.name().rsplit('/').next().unwrap_or_default();
    lines.push(format!("message {name} {base_name}"));
    for field in &message.field {
        let (kind, label) = (kind(message, field), label(message, field));
        lines.push(format!("field {name}.{} {} {kind} {label}", field.name(), field.number()));
    }
    let inner = format!("{name}.");
    message.enum_type.iter().for_each(|of| write_enum(lines, &inner, of));
    message.nested_type.iter().filter(|nested| !is_map_entry(nested)).for_each(|nested| {
        write_message(lines, file, &inner, nested);
    });
}

fn write_enum(lines: &mut Vec<String>, outer: &str, of: &EnumDescriptorProto) {
    lines.push(format!("enum {outer}{}", of.name()));
    for value in &of.value {
        lines.push(format!("value {outer}{}.{} {}", of.name(), value.name(), value.number()));
    }
}

fn write_service(lines: &mut Vec<String>, service: &ServiceDescriptorProto) {
    for rpc in &service.method {
        let streaming = match (rpc.client_streaming(), rpc.server_streaming()) {
            (false, false) => "unary",
            (false, true) => "server-stream",
            (true, false) => "client-stream",
            (true, true) => "bidi-stream",
        };
        let (request, response) = (short(rpc.input_type()), short(rpc.output_type()));
        lines.push(format!("rpc {}.{} {streaming} {request} {response}", service.name(), rpc.name()));
    }
}

fn kind(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    match (map_entry(message, field), field.r#type()) {
        (Some(entry), _) => format!("map<{},{}>", kind(entry, &entry.field[0]), kind(entry, &entry.field[1])),
        (None, Type::Message | Type::Enum) => short(field.type_name()).to_owned(),
        (None, scalar) => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn label(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    if map_entry(message, field).is_some() {
        return "map".to_owned();
    }
    match (field.label(), field.proto3_optional(), field.oneof_index) {
        (Label::Repeated, ..) => "repeated".to_owned(),
        (_, true, _) => "optional".to_owned(),
        (_, false, Some(index)) => {
            let index = usize::try_from(index).expect("the compiler counts oneofs from 0");
            format!("oneof:{}", message.oneof_decl[index].name())
        }
        (_, false, None) => "singular".to_owned(),
    }
}

/// The hidden message behind a map field.
fn map_entry<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
    let entry = field.type_name().rsplit('.').next();
    message.nested_type.iter().find(|nested| is_map_entry(nested) && entry == nested.name.as_deref())
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// A type as the table writes it: without the package, or without `google.protobuf`.
fn short(full: &str) -> &str {
    let ours = full.strip_prefix(".apache.rocketmq.v2.");
    ours.or_else(|| full.strip_prefix(".google.protobuf.")).unwrap_or(full)
}
