//! The first place where a text is no code of its language.

use tree_sitter::{Node, Tree};

use super::grammars::Language;
use super::{NoGrammar, SyntaxError};

/// Whether [`check`] knows the language of files with this extension.
///
/// # Errors
/// [`NoGrammar`], with the extensions that have one.
pub fn can_check(ext: &str) -> Result<(), NoGrammar> {
    Language::of(ext, |_| true).map(drop)
}

/// Finds the first place where a text is no code of the language that its extension names. What a grammar lets pass passes:
/// Python's indentation, for one. A Markdown fence around code is found in every language.
///
/// # Errors
/// The first mistake. Also that there is no grammar: what cannot be judged has not passed. Ask [`can_check`] first.
pub fn check(ext: &str, text: &str) -> Result<(), SyntaxError> {
    let no_grammar = |e: NoGrammar| SyntaxError { line: 1, column: 1, message: e.to_string() };
    let language = Language::of(ext, |_| true).map_err(no_grammar)?;
    let tree = language.parse(text).ok_or(NoGrammar::Build).map_err(no_grammar)?;
    if let Some(at) = fence(&tree, text) {
        return Err(error(text, at, "a Markdown fence, which is no code".to_owned()));
    }
    match first_mistake(&tree) {
        Some(node) => Err(mistake(node, text)),
        None => Ok(()),
    }
}

fn error(text: &str, at: usize, message: String) -> SyntaxError {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[line_start..].chars().count() + 1;
    SyntaxError { line: before.matches('\n').count() + 1, column, message }
}

/// The first node, in the order of the text, that stands for a mistake.
fn first_mistake(tree: &Tree) -> Option<Node<'_>> {
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        // The latter is what HTML's grammar calls a closing tag that closes nothing; it counts as no error there.
        if node.is_error() || node.is_missing() || node.kind() == "erroneous_end_tag" {
            return Some(node);
        }
        if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return None;
            }
        }
    }
}

fn mistake(node: Node, text: &str) -> SyntaxError {
    if node.is_missing() {
        let what = if node.is_named() { node.kind().replace('_', " ") } else { format!("`{}`", node.kind()) };
        return error(text, node.start_byte(), format!("{what} is missing"));
    }
    if let Some(bracket) = unclosed(node) {
        return error(text, bracket.start_byte(), format!("`{}` is never closed", bracket.kind()));
    }
    const SHOWN: usize = 40;
    let source = text[node.byte_range()].trim_start();
    let line = source.lines().next().unwrap_or_default().trim_end();
    let shown: String = line.chars().take(SHOWN).collect();
    let more = if shown.len() < line.len() { "…" } else { "" };
    error(text, node.end_byte() - source.len(), format!("unexpected `{shown}{more}`"))
}

/// The last bracket that stands open in what could not be parsed.
fn unclosed(node: Node) -> Option<Node> {
    let mut open = Vec::new();
    let mut cursor = node.walk();
    for child in node.children(&mut cursor) {
        match child.kind() {
            "(" | "[" | "{" => open.push(child),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// A line that starts with a Markdown fence, outside of comments, strings and other text: some languages take one for code.
fn fence(tree: &Tree, text: &str) -> Option<usize> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    starts.filter(|at| text[*at..].starts_with("```")).find(|at| !is_in_text(tree, *at))
}

/// Whether something that holds any text begins before `at` and reaches over it.
fn is_in_text(tree: &Tree, at: usize) -> bool {
    let mut cursor = tree.walk();
    let mut depth = 0;
    while cursor.goto_first_child_for_byte(at).is_some() {
        depth += 1;
        let node = cursor.node();
        let kind = node.kind();
        let holds_any = ["comment", "string", "heredoc", "template"].iter().any(|word| kind.contains(word));
        // HTML and PHP let text stand outside of everything; that is where prose around code would be.
        let holds_any = holds_any || (kind.ends_with("text") && depth > 1);
        let starts = if kind.ends_with("text") { node.start_byte() <= at } else { node.start_byte() < at };
        if holds_any && starts && at < node.end_byte() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write;

    const GOOD: [(&str, &str); 19] = [
        ("bash", "if true; then\n  cat <<EOF\n```\nEOF\nfi\n"),
        ("c", "#include <stdio.h>\nint main(void) { return 0; }\n"),
        ("css", "/*\n```\n*/\na { color: red; }\n"),
        ("go", "package a\n\nvar s = `x`\n\nfunc f() {}\n"),
        ("html", "<!doctype html>\n<html><body><pre>\n```\n</pre><br></body></html>\n"),
        ("java", "class A {\n  String s = \"\"\"\n```\n\"\"\";\n  void f() {}\n}\n"),
        ("js", "/*\n```js\n```\n*/\nconst f = async () => `a${1}`;\n"),
        ("jsx", "const A = () => <pre>\n```\n</pre>;\n"),
        ("mjs", "export default class {}\n"),
        ("php", "<?php\nfunction f(int $a): int { return $a; }\n"),
        ("py", "def f():\n    \"\"\"\n```\nx\n```\n\"\"\"\n    return 1\n"),
        ("rb", "def f\n  <<~A\n```\n  A\nend\n"),
        ("rs", "/**\n```\nf();\n```\n*/\nfn f() {}\n"),
        ("sh", "echo \"${a:-b}\"\n"),
        ("ts", "const a = <string>b;\nexport type A = { b: string };\n"),
        ("tsx", "const a = <p>{b as string}</p>;\n"),
        ("py", ""),
        ("go", "package é\n"),
        ("css", ""),
    ];

    #[test]
    fn code_passes() {
        for (ext, text) in GOOD {
            assert_eq!(check(ext, text), Ok(()), "{ext}: {text}");
        }
    }

    #[track_caller]
    fn mistakes(texts: &[(&str, &str)], expected: Expect) {
        let mut all = String::new();
        for (ext, text) in texts {
            let found = check(ext, text).map_or_else(|e| e.to_string(), |()| "nothing".to_owned());
            let _ = writeln!(all, "{ext} {text:?}\n    {found}");
        }
        expected.assert_eq(&all);
    }

    #[test]
    fn the_first_mistake_has_a_place() {
        mistakes(
            &[
                ("bash", "if true; then\n echo\n"),
                ("c", "int main(void) { return 0 }\n"),
                ("css", "a { color: red;\nb { x: y }\n"),
                ("go", "package a\n\nfunc f() {\n\tx := \n}\nfunc g( {}\n"),
                ("go", "Here is the code:\npackage a\n"),
                ("html", "<div><p>x</div></span></div>\n"),
                ("html", "<p>x</p></i>\n"),
                ("java", "class A {\n  String s = \"é\"; int x = (1;\n}\n"),
                ("js", "function f() {\n  return 1\n"),
                ("php", "<?php\nfunction f( { }\n"),
                ("py", "def f()\n    pass\n"),
                ("py", "x = (1,\n\ndef g():\n    pass\n"),
                ("rb", "def f\n  1\n"),
                ("rs", "fn a() {\n    b());\n}\n"),
                ("rs", "fn a() {\n    b();\n"),
                ("ts", "const a = [1, 2;\n"),
                ("tsx", "const a = <p>{b}</;\n"),
                ("py", &format!("x = 1 {}\n", "é 2".repeat(30))),
            ],
            expect![[r#"
                bash "if true; then\n echo\n"
                    line 3, column 1: `fi` is missing
                c "int main(void) { return 0 }\n"
                    line 1, column 26: `;` is missing
                css "a { color: red;\nb { x: y }\n"
                    line 2, column 11: `}` is missing
                go "package a\n\nfunc f() {\n\tx := \n}\nfunc g( {}\n"
                    line 4, column 6: identifier is missing
                go "Here is the code:\npackage a\n"
                    line 1, column 1: unexpected `Here is the code:`
                html "<div><p>x</div></span></div>\n"
                    line 1, column 16: unexpected `</span></div>`
                html "<p>x</p></i>\n"
                    line 1, column 9: unexpected `</i>`
                java "class A {\n  String s = \"é\"; int x = (1;\n}\n"
                    line 2, column 29: `)` is missing
                js "function f() {\n  return 1\n"
                    line 2, column 11: `}` is missing
                php "<?php\nfunction f( { }\n"
                    line 2, column 12: `)` is missing
                py "def f()\n    pass\n"
                    line 1, column 1: unexpected `def f()`
                py "x = (1,\n\ndef g():\n    pass\n"
                    line 1, column 5: `(` is never closed
                rb "def f\n  1\n"
                    line 1, column 1: unexpected `def f`
                rs "fn a() {\n    b());\n}\n"
                    line 2, column 8: unexpected `)`
                rs "fn a() {\n    b();\n"
                    line 1, column 8: `{` is never closed
                ts "const a = [1, 2;\n"
                    line 1, column 16: `]` is missing
                tsx "const a = <p>{b}</;\n"
                    line 1, column 19: `>` is missing
                py "x = 1 é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2\n"
                    line 1, column 5: unexpected `1 é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é 2é …`
            "#]],
        );
    }

    #[test]
    fn a_fence_is_found_in_every_language() {
        for (ext, text) in GOOD.into_iter().filter(|(_, text)| !text.is_empty() && !text.contains("```")) {
            let fenced = check(ext, &format!("```{ext}\n{text}```\n"));
            let want = SyntaxError { line: 1, column: 1, message: "a Markdown fence, which is no code".to_owned() };
            assert_eq!(fenced, Err(want), "{ext}: {text}");
            assert!(check(ext, &format!("{text}```\n")).is_err(), "{ext}: {text}");
        }
    }

    #[test]
    fn what_nests_deep_ends() {
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
        assert_eq!(check("js", &format!("x = {};\n", deep("[", "]"))), Ok(()));
        for (ext, open) in [("js", "["), ("py", "("), ("rs", "fn f(){"), ("go", "func f(){"), ("css", "a{")] {
            assert!(check(ext, &open.repeat(2_000)).is_err(), "{ext}");
        }
    }

    #[test]
    fn without_a_grammar_nothing_passes() {
        assert!(
            check("kt", "").unwrap_err().message.starts_with("there is no grammar for `.kt`; there is one for .bash, ")
        );
        assert!(can_check("kt").is_err());
        assert_eq!(can_check("css"), Ok(()));
    }
}
