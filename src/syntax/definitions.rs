//! What a source text defines: one walk over its tree, for all languages.
//!
//! The walk goes into what can hold definitions and into nothing else: not into functions, so that what they define within is
//! not listed. A cursor walks, no recursion: a text that nests deep costs no stack. What a node means is in `roles`.

use std::ops::Range;

use tree_sitter::Node;

use super::comment;
use super::grammars::Language;
use super::marks::Marks;
use super::roles::{Role, docstring, role, signature_head};
use super::{Definition, Kind, NoGrammar};

/// Deeper than this nothing is listed: the text of each definition is repeated in all around it.
const MAX_NESTING: usize = 32;

/// Whether [`definitions`] knows the language of files with this extension.
///
/// # Errors
/// [`NoGrammar`], with the extensions that have one.
pub fn can_define(ext: &str) -> Result<(), NoGrammar> {
    Language::of(ext, Language::has_definitions).map(drop)
}

/// What a source text defines, in the order of the text: functions, methods, types. A text with mistakes in it gives what can
/// be found.
///
/// # Errors
/// [`NoGrammar`], with the extensions that have one.
pub fn definitions(ext: &str, text: &str) -> Result<Vec<Definition>, NoGrammar> {
    let language = Language::of(ext, Language::has_definitions)?;
    let tree = language.parse(text).ok_or(NoGrammar::Build)?;
    let mut walk =
        Walk { language, text, found: Vec::new(), scopes: Vec::new(), marks: Marks::default(), wrapper: None };
    let mut cursor = tree.walk();
    loop {
        if walk.visit(cursor.node()) && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return Ok(walk.found);
            }
        }
    }
}

struct Walk<'a, 't> {
    language: Language,
    text: &'a str,
    found: Vec<Definition>,
    scopes: Vec<Scope>,
    marks: Marks,
    /// What stands around the definition to come and belongs to it: `export`, decorators.
    wrapper: Option<Node<'t>>,
}

/// A type or module around what is visited.
struct Scope {
    end: usize,
    name: String,
    is_type: bool,
}

impl<'t> Walk<'_, 't> {
    /// Looks at one node; whether to look at those in it.
    fn visit(&mut self, node: Node<'t>) -> bool {
        self.scopes.truncate(self.scopes.iter().take_while(|scope| node.start_byte() < scope.end).count());
        if self.wrapper.is_some_and(|wrapper| wrapper.end_byte() <= node.start_byte()) {
            self.wrapper = None;
            self.marks.clear();
        }
        match role(self.language, node, self.text) {
            Role::Mark { comment } => {
                self.marks.add(self.text, node.byte_range(), comment);
                false
            }
            Role::Skip => {
                self.pass(node);
                false
            }
            Role::Through => {
                self.wrapper = None;
                true
            }
            Role::Wrapper => {
                self.wrapper.get_or_insert(node);
                true
            }
            Role::Scope { name, is_type } => {
                self.marks.clear();
                self.enter(node, self.full_name(name), is_type)
            }
            Role::Definition { kind, name, body, is_type } => {
                let name = self.full_name(name);
                self.define(node, kind, &name, body);
                if is_type {
                    return self.enter(node, name, true);
                }
                self.pass(node);
                false
            }
        }
    }

    /// Goes on behind a node that is not looked into.
    fn pass(&mut self, node: Node) {
        if self.wrapper.is_none() {
            self.marks.clear();
        }
        self.marks.code_end = Some(node.end_byte());
    }

    fn full_name(&self, name: String) -> String {
        match self.scopes.last() {
            Some(scope) => format!("{}.{name}", scope.name),
            None => name,
        }
    }

    /// Whether what is in a scope is to be looked at.
    fn enter(&mut self, node: Node, name: String, is_type: bool) -> bool {
        self.wrapper = None;
        if self.scopes.len() >= MAX_NESTING {
            self.pass(node);
            return false;
        }
        self.scopes.push(Scope { end: node.end_byte(), name, is_type });
        true
    }

    fn define(&mut self, node: Node<'t>, kind: Kind, name: &str, body: Option<Range<usize>>) {
        let outer = self.wrapper.take().unwrap_or(node);
        let marks = self.marks.take(self.text, outer.start_byte());
        let first = marks.first().map_or(outer.start_byte(), |(range, _)| range.start);
        let line_start = self.text[..first].rfind('\n').map_or(0, |at| at + 1);
        let start = if self.text[line_start..first].trim().is_empty() { line_start } else { first };
        let in_type = self.scopes.last().is_some_and(|scope| scope.is_type);
        let head = signature_head(outer);
        let comments: Vec<&str> = marks
            .iter()
            .filter(|(_, comment)| *comment)
            .map(|(range, _)| self.text[range.clone()].trim_end())
            .collect();
        let docstring = (self.language == Language::Python)
            .then(|| docstring(node, self.text))
            .flatten()
            .map(|text| comment::dedent(&text));
        self.found.push(Definition {
            name: name.to_owned(),
            kind: if kind == Kind::Function && in_type { Kind::Method } else { kind },
            signature: self.signature(outer, head.start_byte(), body.map_or(outer.end_byte(), |body| body.start)),
            doc: docstring.unwrap_or_else(|| comment::doc(&comments)),
            range: start..outer.end_byte(),
            line: head.start_position().row + 1,
        });
    }

    /// The source from where `outer` starts behind its marks to `end`, on one line and without the comments in it.
    fn signature(&self, outer: Node, start: usize, end: usize) -> String {
        let mut words = Vec::new();
        let mut from = start;
        let mut cursor = outer.walk();
        loop {
            let node = cursor.node();
            if node.kind().ends_with("comment") && from <= node.start_byte() && node.end_byte() <= end {
                words.extend(self.text[from..node.start_byte()].split_whitespace());
                from = node.end_byte();
            }
            if node.start_byte() < end && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    words.extend(self.text[from..end.max(from)].split_whitespace());
                    return words.join(" ").trim_end_matches([';', ' ']).to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
