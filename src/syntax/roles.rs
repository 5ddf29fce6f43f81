//! What a node of a tree means for definitions, language by language. The names of nodes are the grammars' own
//! (`node-types.json` of each).

use std::ops::Range;

use tree_sitter::Node;

use super::Kind;
use super::grammars::Language;

/// What a node means.
pub(super) enum Role {
    /// Nothing: what is in it defines nothing that counts.
    Skip,
    /// What is in it counts as if it stood here.
    Through,
    /// It belongs to the one definition in it.
    Wrapper,
    /// A comment or attribute: it belongs to what comes next.
    Mark { comment: bool },
    /// It defines nothing and gives a name to what is in it.
    Scope { name: String, is_type: bool },
    /// It defines something.
    Definition {
        /// In a type, a function becomes a method.
        kind: Kind,
        name: String,
        /// Where the signature ends.
        body: Option<Range<usize>>,
        /// Whether what is in it counts, under its name.
        is_type: bool,
    },
}

pub(super) fn role(language: Language, node: Node, text: &str) -> Role {
    if node.is_error() {
        return Role::Through;
    }
    match language {
        Language::Go => go(node, text),
        Language::Java => java(node, text),
        Language::JavaScript | Language::Tsx | Language::TypeScript => javascript(node, text),
        Language::Python => python(node, text),
        Language::Rust => rust(node, text),
        Language::Bash | Language::C | Language::Css | Language::Html | Language::Php | Language::Ruby => Role::Skip,
    }
}

fn go(node: Node, text: &str) -> Role {
    match node.kind() {
        "source_file" => Role::Through,
        "comment" => Role::Mark { comment: true },
        "type_declaration" => match node.named_child_count() == 1 && node.child_count() == 2 {
            true => Role::Wrapper,
            false => Role::Through,
        },
        "type_alias" => definition(node, text, Kind::Type, false),
        "type_spec" => {
            let of = node.child_by_field_name("type");
            let kind = match of.map(|of| of.kind()) {
                Some("struct_type") => Kind::Struct,
                Some("interface_type") => Kind::Interface,
                _ => return definition(node, text, Kind::Type, false),
            };
            let body = of.and_then(|of| text[of.byte_range()].find('{').map(|at| of.start_byte() + at..of.end_byte()));
            named(node, text, |name| Role::Definition { kind, name, body, is_type: false })
        }
        "function_declaration" => definition(node, text, Kind::Function, false),
        "method_declaration" => {
            let receiver = node.child_by_field_name("receiver").and_then(|list| list.named_child(0));
            let of = receiver.and_then(|receiver| receiver.child_by_field_name("type"));
            let name = |name: String| match of {
                Some(of) => format!("{}.{name}", type_name(of, text)),
                None => name,
            };
            let body = body(node);
            named(node, text, |n| Role::Definition { kind: Kind::Method, name: name(n), body, is_type: false })
        }
        _ => Role::Skip,
    }
}

fn java(node: Node, text: &str) -> Role {
    match node.kind() {
        "program"
        | "class_body"
        | "interface_body"
        | "enum_body"
        | "enum_body_declarations"
        | "annotation_type_body" => Role::Through,
        "line_comment" | "block_comment" => Role::Mark { comment: true },
        "class_declaration" | "record_declaration" => definition(node, text, Kind::Class, true),
        "interface_declaration" | "annotation_type_declaration" => definition(node, text, Kind::Interface, true),
        "enum_declaration" => definition(node, text, Kind::Enum, true),
        "method_declaration" => definition(node, text, Kind::Function, false),
        "constructor_declaration" | "compact_constructor_declaration" => definition(node, text, Kind::Method, false),
        _ => Role::Skip,
    }
}

fn javascript(node: Node, text: &str) -> Role {
    match node.kind() {
        "program" | "class_body" | "class" | "statement_block" | "assignment_expression" => Role::Through,
        "comment" => Role::Mark { comment: true },
        "decorator" => Role::Mark { comment: false },
        "ambient_declaration" => Role::Wrapper,
        "lexical_declaration" | "variable_declaration" => {
            let mut cursor = node.walk();
            let count = node.named_children(&mut cursor).filter(|n| n.kind() == "variable_declarator").take(2).count();
            if count == 1 { Role::Wrapper } else { Role::Through }
        }
        "export_statement" => match node.child_by_field_name("value") {
            Some(value) => {
                let name = value.child_by_field_name("name").map_or("default", |name| &text[name.byte_range()]);
                value_definition(value, name.to_owned())
            }
            None => Role::Wrapper,
        },
        "expression_statement" => match node.named_child(0) {
            Some(inner) if inner.kind() == "internal_module" => Role::Through,
            Some(inner) if inner.kind() == "assignment_expression" => exports(inner, text),
            _ => Role::Skip,
        },
        "internal_module" | "module" => named(node, text, |name| Role::Scope { name, is_type: false }),
        "function_declaration" | "generator_function_declaration" | "function_signature" => {
            definition(node, text, Kind::Function, false)
        }
        "class_declaration" | "abstract_class_declaration" => definition(node, text, Kind::Class, true),
        "interface_declaration" => definition(node, text, Kind::Interface, false),
        "enum_declaration" => definition(node, text, Kind::Enum, false),
        "type_alias_declaration" => definition(node, text, Kind::Type, false),
        "method_definition" | "method_signature" | "abstract_method_signature" => {
            definition(node, text, Kind::Method, false)
        }
        "variable_declarator" | "field_definition" | "public_field_definition" => {
            let name = node.child_by_field_name("name").or_else(|| node.child_by_field_name("property"));
            match (name, node.child_by_field_name("value")) {
                (Some(name), Some(value)) => value_definition(value, text[name.byte_range()].to_owned()),
                _ => Role::Skip,
            }
        }
        _ => Role::Skip,
    }
}

/// `exports.NAME = VALUE` and `module.exports.NAME = VALUE`.
fn exports(assignment: Node, text: &str) -> Role {
    let (Some(left), Some(right)) = (assignment.child_by_field_name("left"), assignment.child_by_field_name("right"))
    else {
        return Role::Skip;
    };
    match text[left.byte_range()].rsplit_once('.') {
        Some(("exports" | "module.exports", name)) => value_definition(right, name.to_owned()),
        _ => Role::Skip,
    }
}

/// A value that has a name, if it is a function or a class.
fn value_definition(value: Node, name: String) -> Role {
    let (kind, is_type) = match value.kind() {
        "arrow_function" | "function_expression" | "generator_function" => (Kind::Function, false),
        "class" => (Kind::Class, true),
        _ => return Role::Skip,
    };
    Role::Definition { kind, name, body: body(value), is_type }
}

fn python(node: Node, text: &str) -> Role {
    match node.kind() {
        "module" | "block" | "if_statement" | "elif_clause" | "else_clause" | "try_statement" | "except_clause"
        | "finally_clause" | "with_statement" => Role::Through,
        "comment" => Role::Mark { comment: true },
        "decorated_definition" => Role::Wrapper,
        "class_definition" => definition(node, text, Kind::Class, true),
        "function_definition" => definition(node, text, Kind::Function, false),
        "type_alias_statement" => match node.child_by_field_name("left") {
            Some(left) => {
                let name = text[left.byte_range()].split('[').next().unwrap_or_default().trim().to_owned();
                Role::Definition { kind: Kind::Type, name, body: None, is_type: false }
            }
            None => Role::Skip,
        },
        _ => Role::Skip,
    }
}

fn rust(node: Node, text: &str) -> Role {
    match node.kind() {
        "source_file" | "declaration_list" | "foreign_mod_item" => Role::Through,
        // Inner comments are about what is around them.
        "line_comment" | "block_comment" if node.child_by_field_name("inner").is_none() => Role::Mark { comment: true },
        "attribute_item" => Role::Mark { comment: false },
        "mod_item" => named(node, text, |name| Role::Scope { name, is_type: false }),
        "impl_item" => match node.child_by_field_name("type") {
            Some(of) => Role::Scope { name: type_name(of, text), is_type: true },
            None => Role::Skip,
        },
        "trait_item" => definition(node, text, Kind::Trait, true),
        "struct_item" | "union_item" => definition(node, text, Kind::Struct, false),
        "enum_item" => definition(node, text, Kind::Enum, false),
        "type_item" => definition(node, text, Kind::Type, false),
        "function_item" | "function_signature_item" => definition(node, text, Kind::Function, false),
        _ => Role::Skip,
    }
}

fn definition(node: Node, text: &str, kind: Kind, is_type: bool) -> Role {
    named(node, text, |name| Role::Definition { kind, name, body: body(node), is_type })
}

/// A node without a name is the rest of something that could not be parsed.
fn named(node: Node, text: &str, role: impl FnOnce(String) -> Role) -> Role {
    match node.child_by_field_name("name") {
        Some(name) if !name.is_missing() => role(text[name.byte_range()].to_owned()),
        _ => Role::Skip,
    }
}

fn body(node: Node) -> Option<Range<usize>> {
    let body = node.child_by_field_name("body")?;
    // The fields of a tuple struct are its signature.
    (body.kind() != "ordered_field_declaration_list").then(|| body.byte_range())
}

/// The name of a type without what it points to, its path and its parameters: `Foo` of `*Foo[T]` and of `a::Foo<T>`.
fn type_name(mut of: Node, text: &str) -> String {
    loop {
        let inner = match of.kind() {
            "pointer_type" | "parenthesized_type" => of.named_child(0),
            "generic_type" | "reference_type" => of.child_by_field_name("type"),
            "scoped_type_identifier" => of.child_by_field_name("name"),
            _ => None,
        };
        match inner {
            Some(inner) => of = inner,
            None => return text[of.byte_range()].split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

/// The node that a definition itself starts with, behind decorators and annotations.
pub(super) fn signature_head(node: Node) -> Node {
    let is_mark = |node: &Node| matches!(node.kind(), "decorator" | "annotation" | "marker_annotation");
    let mut cursor = node.walk();
    for child in node.children(&mut cursor).filter(|child| !is_mark(child)) {
        if child.kind() != "modifiers" {
            return child;
        }
        let mut inner = child.walk();
        let keyword = child.children(&mut inner).find(|child| !is_mark(child));
        if let Some(keyword) = keyword {
            return keyword;
        }
    }
    node
}

/// The text of a Python definition's docstring.
pub(super) fn docstring(node: Node, text: &str) -> Option<String> {
    let body = node.child_by_field_name("body")?;
    let mut cursor = body.walk();
    let first = body.named_children(&mut cursor).find(|child| child.kind() != "comment")?;
    let string =
        first.named_child(0).filter(|inner| first.kind() == "expression_statement" && inner.kind() == "string")?;
    let mut cursor = string.walk();
    let content = string.named_children(&mut cursor).filter(|part| part.kind() == "string_content");
    Some(content.map(|part| &text[part.byte_range()]).collect())
}
