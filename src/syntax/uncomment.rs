//! A source text without its comments.

use std::ops::Range;

use tree_sitter::Tree;

use super::NoGrammar;
use super::grammars::Language;

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// A source text without its comments, those that document something among them. Python's docstrings are strings, and stay; so does
/// a first line that says what runs the file (`#!`). For who reads it, not for who runs it: some comments are directives.
///
/// A line on which nothing else stood is left out, and so are blanks before a comment that ends its line. What stood on both sides of a
/// comment is kept apart as the language takes it: by a line break where the comment had one.
///
/// # Errors
/// [`NoGrammar`], with the extensions that have one.
pub fn without_comments(ext: &str, text: &str) -> Result<String, NoGrammar> {
    let language = Language::of(ext, |_| true)?;
    let tree = language.parse(text).ok_or(NoGrammar::Build)?;
    let mut left = Left { language, text: String::with_capacity(text.len()), line: 0, gap: None };
    let mut from = 0;
    for comment in comments(&tree, text) {
        left.code(&text[from..comment.start]);
        left.comment(&text[comment.clone()]);
        from = comment.end;
    }
    left.code(&text[from..]);
    Ok(left.end())
}

/// Where comments are, in the order of the text; without the line break that some grammars count in.
fn comments(tree: &Tree, text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        let is_comment = node.kind().ends_with("comment");
        // HTML's grammar takes what looks like one for one in there, too.
        let is_text = node.kind() == "quoted_attribute_value";
        if is_comment {
            let (start, source) = (node.start_byte(), &text[node.byte_range()]);
            let is_shebang = start == 0 && source.starts_with("#!");
            if !is_shebang && found.last().is_none_or(|last| last.end <= start) {
                found.push(start..start + source.trim_end().len());
            }
        }
        if !is_comment && !is_text && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return found;
            }
        }
    }
}

/// What is left of a text.
struct Left {
    language: Language,
    text: String,
    /// Where its last line starts.
    line: usize,
    /// What was left out behind it, as long as nothing else came.
    gap: Option<Gap>,
}

/// One comment or several, with blanks around them.
struct Gap {
    /// Nothing but blanks stands before it on its line.
    is_first: bool,
    /// Whether there are blanks before it, and behind it.
    blanks: (bool, bool),
    /// The line break that stood in it.
    line_break: Option<&'static str>,
}

impl Left {
    fn comment(&mut self, comment: &str) {
        let (start, len) = (self.line, self.text.len());
        let code = start + self.text[start..].trim_end_matches(BLANK).len();
        let gap =
            self.gap.get_or_insert(Gap { is_first: code == start, blanks: (code < len, false), line_break: None });
        gap.line_break = gap.line_break.or_else(|| ["\r\n", "\n"].into_iter().find(|end| comment.contains(end)));
        if !gap.is_first {
            self.text.truncate(code);
        }
    }

    fn code(&mut self, code: &str) {
        let Some(mut gap) = self.gap.take() else { return self.push(code) };
        let rest = code.trim_start_matches(BLANK);
        gap.blanks.1 = rest.len() < code.len();
        if rest.is_empty() {
            self.gap = Some(gap);
            return;
        }
        let after_line = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n'));
        match after_line {
            Some(after) if gap.is_first && self.drop_line() => return self.push(after),
            Some(_) => {}
            None if gap.is_first => {}
            None => match gap.line_break {
                Some(line_break) => self.push(line_break),
                None if self.are_apart(gap.blanks, rest) => self.push(" "),
                None => {}
            },
        }
        self.push(rest);
    }

    fn end(mut self) -> String {
        if self.gap.take().is_some_and(|gap| gap.is_first) {
            self.drop_line();
        }
        self.text
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        if let Some(at) = text.rfind('\n') {
            self.line = self.text.len() - text.len() + at + 1;
        }
    }

    /// Takes back the blanks of the last line; `false` where its end is needed, as the line before goes on in it.
    fn drop_line(&mut self) -> bool {
        self.text.truncate(self.line);
        let before = self.text.trim_end_matches(['\n', '\r']);
        before.len() == self.text.len() || !before.ends_with('\\')
    }

    /// Whether a blank belongs between what stands before a gap and behind it, by the blanks that stood on both sides.
    fn are_apart(&self, blanks: (bool, bool), rest: &str) -> bool {
        let (Some(before), Some(after)) = (self.text.chars().next_back(), rest.chars().next()) else { return false };
        match self.language {
            // In both a blank means something, and a comment is none.
            Language::Html => blanks.0 || blanks.1,
            Language::Css => {
                let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
                blanks.0 || blanks.1 || (is_name(before) && is_name(after))
            }
            _ => {
                (blanks.0 || !matches!(before, '(' | '[' | '{'))
                    && (blanks.1 || !matches!(after, ')' | ']' | '}' | ',' | ';'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    #[track_caller]
    fn is(ext: &str, text: &str, expected: Expect) {
        let left = without_comments(ext, text).unwrap();
        expected.assert_eq(&left);
        assert_eq!(check(ext, text), Ok(()), "the sample");
        assert_eq!(check(ext, &left), Ok(()), "what is left");
        assert_eq!(without_comments(ext, &left).unwrap(), left);
        let windows = without_comments(ext, &text.replace('\n', "\r\n")).unwrap();
        assert_eq!(windows, left.replace('\n', "\r\n"), "with other line breaks");
    }

    #[test]
    fn bash() {
        is(
            "sh",
            "#!/bin/sh\n# What it does.\nset -e # stop\n\n  # indented\nif true; then\n  echo \"# no\" '# no' a#b ${x#y} # yes\n  cat <<EOF\n# no\nEOF\nfi\necho $(date # now\n)\necho a \\\n  # ends it\necho b # last",
            expect![[r##"
                #!/bin/sh
                set -e

                if true; then
                  echo "# no" '# no' a#b ${x#y}
                  cat <<EOF
                # no
                EOF
                fi
                echo $(date
                )
                echo a \

                echo b"##]],
        );
    }

    #[test]
    fn c() {
        is(
            "c",
            "/* Copyright\n * someone */\n#include <stdio.h> // for puts\n#define F/* no macro of x */(x)\n\n// One.\nint main(void) { /* in */ return/**/0/* a */+ /* b */ 1; } // end\nchar *s = \"/* no */ // no\"; /* a\n b */ int t; /* c */ /* d */\n/* e */ /* f */\n    /* g */ int u;\nint v = f(/* w */1/* x */, 2 /* y */);\n",
            expect![[r##"
                #include <stdio.h>
                #define F (x)

                int main(void) { return 0 + 1; }
                char *s = "/* no */ // no";
                int t;
                    int u;
                int v = f(1, 2);
            "##]],
        );
    }

    #[test]
    fn css() {
        is(
            "css",
            "/* all */\na/**/.b { color: red; /* why */ }\n/* x */ b /* y */ .c { content: \"/* no */\" }\n\n/*\n */\nd { margin: 1px/**/2px }\n",
            expect![[r#"
                a.b { color: red; }
                b .c { content: "/* no */" }

                d { margin: 1px 2px }
            "#]],
        );
    }

    #[test]
    fn go() {
        is(
            "go",
            "// Package a does.\npackage a\n\n//go:generate x\n\n// F is.\nfunc F(a /* first */, b int) string { // open\n\t// only\n\treturn `// no` + \"/* no */\" /* a\n\tb */\n}\n\nvar c = '/' // d\n",
            expect![[r#"
                package a


                func F(a, b int) string {
                	return `// no` + "/* no */"
                }

                var c = '/'
            "#]],
        );
    }

    #[test]
    fn html() {
        is(
            "html",
            "<!doctype html>\n<!-- head -->\n<p>a<!-- b -->c <!-- d --> e</p>\n  <!-- f\n  g -->\n<pre title=\"<!-- no -->\">x</pre> <!-- h -->\n",
            expect![[r#"
                <!doctype html>
                <p>ac e</p>
                <pre title="<!-- no -->">x</pre>
            "#]],
        );
    }

    #[test]
    fn java() {
        is(
            "java",
            "/** Doc. */\nclass A {\n    // one\n    /* two */ int a; // three\n    String s = \"// no\", t = \"\"\"\n      // no\n      \"\"\";\n    /**\n     * Doc.\n     */\n    void f(/* none */) {}\n}\n",
            expect![[r#"
                class A {
                    int a;
                    String s = "// no", t = """
                      // no
                      """;
                    void f() {}
                }
            "#]],
        );
    }

    #[test]
    fn javascript() {
        is(
            "js",
            "#!/usr/bin/env node\n// a\nconst r = /\\/\\*x*\\//, s = '// no', t = `// no ${/* yes */ x} /* no */`; // b\nfunction f() {\n  return /* a\n  b */ 1;\n}\nlet a = 1 /* c\n*/\nlet b = 2;\n/** doc */\nexport default f;\n",
            expect![[r#"
                #!/usr/bin/env node
                const r = /\/\*x*\//, s = '// no', t = `// no ${x} /* no */`;
                function f() {
                  return
                1;
                }
                let a = 1
                let b = 2;
                export default f;
            "#]],
        );
        is(
            "jsx",
            "const A = () => <p>// no {/* yes */}{x /* y */}</p>; // z\n",
            expect![[r#"
                const A = () => <p>// no {}{x}</p>;
            "#]],
        );
    }

    #[test]
    fn php() {
        is(
            "php",
            "<p># no</p>\n<?php\n# a\n// b\n#[Attribute]\nfunction f(/* c */ $x) { return '# no'; } // d\n/** e */\n$h = <<<A\n// no\nA;\n?>\n<p>// no</p>\n<?php // f ?>\n<b/>\n",
            expect![[r#"
                <p># no</p>
                <?php
                #[Attribute]
                function f($x) { return '# no'; }
                $h = <<<A
                // no
                A;
                ?>
                <p>// no</p>
                <?php ?>
                <b/>
            "#]],
        );
    }

    #[test]
    fn python() {
        is(
            "py",
            "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n\"\"\"Doc # no.\"\"\"\n\nimport a  # why\n\n\ndef f(x):  # é\n    # only\n    '''Doc.\n    # no\n    '''\n    return [  # b\n        1,\n        # c\n        '# no',\n    ]\n    # last",
            expect![[r##"
                #!/usr/bin/env python3
                """Doc # no."""

                import a


                def f(x):
                    '''Doc.
                    # no
                    '''
                    return [
                        1,
                        '# no',
                    ]
            "##]],
        );
    }

    #[test]
    fn ruby() {
        is(
            "rb",
            "# frozen_string_literal: true\n\n=begin\nall\n=end\ndef f # a\n  # b\n  s = \"# no #{1 + 1} # no\" # c\n  <<~A # d\n    # no\n  A\nend\n",
            expect![[r##"

                def f
                  s = "# no #{1 + 1} # no"
                  <<~A
                    # no
                  A
                end
            "##]],
        );
    }

    #[test]
    fn rust() {
        is(
            "rs",
            "//! Crate.\n#![allow(x)]\n\n/// Doc.\n/// More.\n#[inline] // why\nfn f<'a>(a: &'a str /* b */) -> u8 { // c\n    /* d /* nested */ e */\n    let s = \"// no\"; let r = r#\"/* no */\"#; //! f\n    b'/' /* g */\n}\n/**\n * Doc.\n */\nmod m {\n    //! Inner.\n}\n",
            expect![[r##"
                #![allow(x)]

                #[inline]
                fn f<'a>(a: &'a str) -> u8 {
                    let s = "// no"; let r = r#"/* no */"#;
                    b'/'
                }
                mod m {
                }
            "##]],
        );
    }

    #[test]
    fn typescript() {
        is(
            "ts",
            "// a\nexport type A = { // b\n  /** c */\n  d: string; /* e */\n  f: '// no';\n};\n",
            expect![[r#"
            export type A = {
              d: string;
              f: '// no';
            };
        "#]],
        );
        is(
            "tsx",
            "const a = <p /* b */ c=\"/* no */\">// no</p>; // d\n",
            expect![[r#"
            const a = <p c="/* no */">// no</p>;
        "#]],
        );
    }

    #[test]
    fn texts_of_nothing_else() {
        for (ext, text) in
            [("py", "# a"), ("rs", "// a\n"), ("c", "/* a\n*/\n/* b */"), ("html", "<!-- a -->\n"), ("go", "")]
        {
            assert_eq!(without_comments(ext, text).unwrap(), "", "{ext}");
        }
        assert_eq!(without_comments("py", "x = 1\n").unwrap(), "x = 1\n");
        assert!(without_comments("txt", "").unwrap_err().to_string().starts_with("there is no grammar for `.txt`"));
    }

    const PIECES: [&str; 30] = [
        "// a\n",
        "/* b */",
        "/* c\n d */",
        "# e\n",
        "<!-- f -->",
        "\"",
        "'",
        "`",
        "\\\n",
        "\n",
        "\r\n",
        " ",
        "\t",
        "x",
        "1",
        "(",
        ")",
        "{",
        "}",
        ";",
        "<<A\n",
        "A\n",
        "/",
        "*/",
        "<?php ",
        "?>",
        "<b>",
        "=begin\n",
        "=end\n",
        "é🦀",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn nothing_but_comments_and_blanks_goes(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..30)) {
            let text = pieces.concat();
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            for ext in ["bash", "c", "css", "go", "html", "java", "js", "php", "py", "rb", "rs", "ts", "tsx"] {
                let tree = Language::of(ext, |_| true).unwrap().parse(&text).unwrap();
                let mut code = text.clone();
                comments(&tree, &text).into_iter().rev().for_each(|comment| code.replace_range(comment, " "));
                let left = without_comments(ext, &text).unwrap();
                prop_assert_eq!(solid(&left), solid(&code), "{}: {:?}", ext, text);
                prop_assert!(left.matches('\n').count() <= text.matches('\n').count() && left.len() <= text.len());
            }
        }
    }
}
