//! What `init` offers to write for git: which files are generated, how they are merged, and what is not committed.
//!
//! The settings work in every clone without a configuration of its own. A line that a person has for the same files stays theirs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::files::Files;
use crate::graph::Graph;
use crate::manifest::OnEdit;
use crate::path::{Pattern, RelPath};
use crate::project::Project;
use crate::tree::{NoBlobs, WorkTree};

/// Git's file of attributes, and that of what it does not track.
const FILES: [&str; 2] = [".gitattributes", ".gitignore"];

/// What stands above the lines.
const HEADING: &str = "# genmake";

/// The texts of git's files with the lines in them that they lack, by name; a file that lacks none, or that a rule makes, is not in it.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn texts(project: &Project, root: &Path, lock: &str) -> Result<Vec<(&'static str, String)>, Error> {
    let tree = WorkTree::new(root.to_owned(), HashMap::new(), 0, Arc::new(NoBlobs));
    let graph = project.graph();
    let mut texts = Vec::new();
    for (name, lines) in FILES.into_iter().zip([attributes(graph, &tree, lock)?, vec!["/.genmake/".to_owned()]]) {
        let Ok(path) = RelPath::new(name) else { continue };
        if graph.makers.contains_key(&path) {
            continue;
        }
        texts.extend(with(tree.text(&path)?.as_deref(), &lines).map(|text| (name, text)));
    }
    Ok(texts)
}

/// A line for the lock, and one for what each rule makes.
///
/// - `merge=union` takes the lines of both sides: of several for a target the one that matches its bytes counts, and a build leaves one.
/// - `-merge` leaves an output as it was here where both sides changed it, and git says that it is to be resolved: a build makes it
///   anew. Where a person's edits are kept or merged they are texts as any other.
/// - `-text`: the lock's digests are of bytes, which no end of a line may change.
fn attributes(graph: &Graph, tree: &WorkTree, lock: &str) -> Result<Vec<String>, Error> {
    let mut lines = vec![format!("{} linguist-generated merge=union -text", word(lock))];
    for (at, rule) in graph.manifest.rules.iter().enumerate() {
        let merge = match rule.on_edit {
            OnEdit::Keep | OnEdit::Merge => "",
            OnEdit::Stop | OnEdit::Overwrite => " -merge",
        };
        for (nth, (_, output)) in rule.outputs.iter().enumerate() {
            let tasks = graph.tasks.iter().filter(|task| task.rule == at);
            let paths: Vec<&RelPath> = tasks.filter_map(|task| Some(&task.outputs.get(nth)?.path)).collect();
            let pattern = pattern(output.text(), &paths, graph, tree)?;
            let words =
                pattern.map_or_else(|| paths.iter().map(|path| word(path.as_str())).collect(), |word| vec![word]);
            lines.extend(words.into_iter().map(|word| format!("{word} linguist-generated{merge} -text")));
        }
    }
    Ok(lines)
}

/// A pattern that means all of these outputs, and of the files that are there nothing else.
fn pattern(text: &str, paths: &[&RelPath], graph: &Graph, tree: &WorkTree) -> Result<Option<String>, Error> {
    let mut glob = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((_, after)) = after.split_once("}}") else { return Ok(None) };
        glob += before;
        glob.push('*');
        rest = after;
    }
    glob += rest;
    let is_plain =
        !glob.contains("**") && !glob.contains(['[', '?', '{', '\\', '"', '!']) && !glob.contains(char::is_whitespace);
    let Ok(pattern) = Pattern::new(&glob) else { return Ok(None) };
    if paths.is_empty() || !glob.contains('*') || !is_plain || !paths.iter().all(|path| pattern.matches(path)) {
        return Ok(None);
    }
    let is_only = tree.list(&pattern)?.iter().all(|path| graph.makers.contains_key(path));
    Ok(is_only.then(|| format!("/{}", glob.trim_start_matches("./"))))
}

/// A path as a pattern of git's that means it alone.
fn word(path: &str) -> String {
    let mut escaped = String::from("/");
    for c in path.chars() {
        if "*?[\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    let is_quoted = escaped.contains([' ', '"']);
    if is_quoted { format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\"")) } else { escaped }
}

/// A file's text with the lines that it lacks behind it, ended as its lines are; none if it lacks none.
fn with(text: Option<&str>, lines: &[String]) -> Option<String> {
    // Of a line its first word counts, with or without slashes around it: what a person says of a file stands.
    let means = |line: &str| line.split_whitespace().next().unwrap_or_default().trim_matches('/').to_owned();
    let text = text.unwrap_or_default();
    let known: Vec<String> = text.lines().map(means).collect();
    let missing: Vec<&String> = lines.iter().filter(|line| !known.contains(&means(line))).collect();
    if missing.is_empty() {
        return None;
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut new = text.to_owned();
    if !new.is_empty() && !new.ends_with('\n') {
        new += end;
    }
    if !text.lines().any(|line| line.trim_end() == HEADING) {
        if !new.is_empty() {
            new += end;
        }
        new += HEADING;
        new += end;
    }
    missing.into_iter().for_each(|line| new += &format!("{line}{end}"));
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_once_and_end_as_the_others_do() {
        let lines = ["/a x".to_owned(), "/b x".to_owned()];
        let new = with(None, &lines).unwrap();
        assert_eq!(new, "# genmake\n/a x\n/b x\n");
        assert_eq!(with(Some(&new), &lines), None);
        assert_eq!(with(Some("z\r\na -x"), &lines).unwrap(), "z\r\na -x\r\n\r\n# genmake\r\n/b x\r\n");
        assert_eq!(with(Some("# genmake\n/a x\n"), &lines).unwrap(), "# genmake\n/a x\n/b x\n");
        assert_eq!(with(Some("/.genmake\n"), &["/.genmake/".to_owned()]), None);
    }

    #[test]
    fn a_path_means_itself() {
        assert_eq!(word("a/b.md"), "/a/b.md");
        assert_eq!(word("a [1]*.md"), "\"/a \\\\[1]\\\\*.md\"");
    }
}
