//! `Genfile.lock`: which content each target has, and which key made it. Text in, text out.
//!
//! One line a target, sorted, so that merges rarely conflict; where they did, the markers are understood.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{Code, Error, Place, Source};
use crate::path::RelPath;

/// The lock of a Genfile of this name: `Genfile.lock` for the usual ones, `NAME.lock` for another.
pub fn file_name(genfile: &str) -> String {
    match genfile {
        "Genfile" | "Genfile.yaml" | "Genfile.yml" => "Genfile.lock".to_owned(),
        other => format!("{other}.lock"),
    }
}

const HEADER: &str = "genmake-lock 1";

/// Whether a text is a lock, in order or not: a `NAME.lock` may be another tool's.
pub fn is_lock(text: &str) -> bool {
    text.lines()
        .take_while(|line| is_marker(line.trim_end()) || line.trim_end() == HEADER)
        .any(|line| line.trim_end() == HEADER)
}

/// A parsed lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// More than one entry for a path only where a merge left both sides.
    entries: BTreeMap<RelPath, Vec<Entry>>,
    /// Whether the text held conflict markers or several lines for a target, so that it must be written anew.
    pub conflicted: bool,
}

/// What the lock says of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The digest of its content.
    pub content: Digest,
    /// The action key that made it.
    pub key: Digest,
    /// The rule.
    pub rule: String,
    /// The model, for what a model wrote.
    pub model: Option<String>,
    /// The generated content below an accepted edit.
    pub base: Option<Digest>,
    /// Of a collection for each row of the file what its result is stored by, so that a clone without a store asks for nothing that
    /// stands there.
    pub rows: Option<Arc<[RowKey]>>,
}

/// The first bytes of the key of a row's result; none of a result that is nobody's.
pub type RowKey = u64;

/// The first bytes of a key.
pub fn row_key(key: &Digest) -> RowKey {
    key.bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// How many hex digits a row's key has.
const ROW: usize = 16;

impl Entry {
    /// Whether this content was generated: it is neither unknown nor an edit that was accepted.
    pub fn is_generated(&self, content: Digest) -> bool {
        match self.base {
            None => self.content == content,
            Some(base) => base == content,
        }
    }
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// [`Code::BadLock`], pointing at the first line that is none.
    pub fn parse(name: &str, text: &str) -> Result<Lock, Error> {
        let mut lock = Lock::default();
        // What both sides of a conflict had before: of the style `diff3`.
        let (mut before, mut is_before) = (Vec::new(), false);
        let mut offset = 0;
        let bad = |what: &str, line: &str, offset: usize| {
            let place = Place { source: Source::new(name, text), span: offset..offset + line.trim_end().len() };
            Error::new(Code::BadLock, format!("the lock cannot be read: {what}")).at(place).hint(way_out(name))
        };
        let mut headed = false;
        for line in text.split_inclusive('\n') {
            let body = line.trim_end();
            match () {
                () if is_marker(body) => {
                    lock.conflicted = true;
                    is_before = body.starts_with('|');
                }
                () if body.is_empty() || body == HEADER => headed |= body == HEADER,
                () if !headed && body.starts_with("genmake-lock ") => {
                    let error = bad("it is of another version of genmake", line, offset);
                    return Err(Error { hints: Vec::new(), ..error }.hint(
                        "use the genmake that wrote it; without the lock, nobody knows which edits were accepted",
                    ));
                }
                () if !headed => return Err(bad("its first line is not `genmake-lock 1`", line, offset)),
                () => match entry(body) {
                    Some(entry) if is_before => before.push(entry),
                    Some((path, entry)) => {
                        let entries = lock.entries.entry(path).or_default();
                        if !entries.contains(&entry) {
                            entries.push(entry);
                        }
                        // So it is after a merge by `union`, which leaves no markers.
                        lock.conflicted |= entries.len() > 1;
                    }
                    None => return Err(bad("this line is no entry with a path below the root", line, offset)),
                },
            }
            offset += line.len();
        }
        // It may be what is on disk; a path that neither side has any more is not taken up again.
        for (path, entry) in before {
            if let Some(entries) = lock.entries.get_mut(&path).filter(|entries| !entries.contains(&entry)) {
                entries.push(entry);
            }
        }
        if !headed {
            return Err(bad("it is empty", "", 0));
        }
        Ok(lock)
    }

    /// The entries of some targets alone, in a lock without conflicts; `None` where the text is not as genmake writes it.
    pub fn of_targets<'a>(text: &str, targets: impl Iterator<Item = &'a RelPath>) -> Option<Lock> {
        let lines = lines(text)?;
        let mut lock = Lock::default();
        for target in targets {
            if let Ok(at) = place(&lines, target)? {
                let (path, found) = entry(lines[at].trim_end())?;
                lock.set(path, found);
            }
        }
        Some(lock)
    }

    /// `text`, a lock without conflicts, with the entries of this one in their places and all other lines as they are; `None` where
    /// the text is not as genmake writes it.
    pub fn put_into(&self, text: &str) -> Option<String> {
        let lines = lines(text)?;
        let mut new = String::with_capacity(text.len() + 256);
        new.push_str(HEADER);
        new.push('\n');
        let mut next = 0;
        for (path, entry) in self.iter() {
            let at = place(&lines, path)?;
            let (Ok(until) | Err(until)) = at;
            lines.get(next..until)?.iter().for_each(|line| new.push_str(line));
            new += &line(path, entry);
            next = until + usize::from(at.is_ok());
        }
        lines.get(next..)?.iter().for_each(|line| new.push_str(line));
        Some(new)
    }

    /// The text: header, then the entries in byte order of their paths. What a merge left open and nothing has settled stands
    /// between markers again.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (path, entries) in &self.entries {
            let lines: Vec<String> = entries.iter().map(|entry| line(path, entry)).collect();
            match &lines[..] {
                [line] => text += line,
                lines => text += &format!("<<<<<<<\n{}>>>>>>>\n", lines.join("=======\n")),
            }
        }
        text
    }

    /// The entry of a target. Where a merge left several, the one that matches the bytes on disk.
    pub fn get(&self, path: &RelPath, on_disk: Option<Digest>) -> Option<&Entry> {
        let entries = self.entries.get(path)?;
        entries.iter().find(|entry| Some(entry.content) == on_disk).or(entries.first())
    }

    /// Sets the entry of a target.
    pub fn set(&mut self, path: RelPath, entry: Entry) {
        self.entries.insert(path, vec![entry]);
    }

    /// Takes a target out.
    pub fn remove(&mut self, path: &RelPath) {
        self.entries.remove(path);
    }

    /// Settles what a merge left open by what is on disk, for the targets that are `meant`.
    pub fn settle(&mut self, on_disk: impl Fn(&RelPath) -> Option<Digest>, meant: impl Fn(&RelPath) -> bool) {
        for (path, entries) in self.entries.iter_mut().filter(|(_, entries)| entries.len() > 1) {
            if meant(path) {
                let digest = on_disk(path);
                let at = entries.iter().position(|entry| Some(entry.content) == digest).unwrap_or(0);
                entries.swap(0, at);
                entries.truncate(1);
            }
        }
        self.conflicted = self.entries.values().any(|entries| entries.len() > 1);
    }

    /// All entries, also the several that a merge left for one path.
    pub fn all(&self) -> impl Iterator<Item = (&RelPath, &Entry)> {
        self.entries.iter().flat_map(|(path, entries)| entries.iter().map(move |entry| (path, entry)))
    }

    /// All targets in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Entry)> {
        self.entries.iter().filter_map(|(path, entries)| entries.first().map(|entry| (path, entry)))
    }
}

/// A target's line.
fn line(path: &RelPath, entry: &Entry) -> String {
    let Entry { content, key, rule, model, base, rows } = entry;
    let mut line = format!("{} sha256:{content} key:{key} rule:{}", quoted(path.as_str()), quoted(rule));
    if let Some(model) = model {
        line += &format!(" model:{}", quoted(model));
    }
    if let Some(base) = base {
        line += &format!(" base:sha256:{base}");
    }
    if let Some(rows) = rows {
        line += " rows:";
        rows.iter().for_each(|row| line += &format!("{row:016x}"));
    }
    line.push('\n');
    line
}

/// The lines after the header.
fn lines(text: &str) -> Option<Vec<&str>> {
    let mut lines = text.split_inclusive('\n');
    (text.is_empty() || lines.next()?.strip_suffix('\n')? == HEADER).then(|| lines.collect())
}

/// What to do about a lock that cannot be read.
pub fn way_out(name: &str) -> String {
    format!(
        "`git checkout HEAD -- {name}` takes it back; or delete it and run genmake: outputs that equal what would be made are \
         adopted"
    )
}

/// Where a target's line stands among sorted ones, or where it would.
fn place(lines: &[&str], target: &RelPath) -> Option<Result<usize, usize>> {
    let is_sound = |line: &&str| line.ends_with('\n') && word(line.trim_end()).is_some();
    let at = lines.binary_search_by(|line| match word(line.trim_end()) {
        Some((path, _)) => path.as_str().cmp(target.as_str()),
        None => std::cmp::Ordering::Less,
    });
    let (Ok(near) | Err(near)) = at;
    lines[near.saturating_sub(1)..lines.len().min(near + 1)].iter().all(is_sound).then_some(at)
}

/// Whether a line is one of those that git leaves in a conflict: seven of a kind, then a space or nothing.
fn is_marker(line: &str) -> bool {
    let marks = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];
    marks.iter().any(|mark| line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
}

/// A word as it is, or as a JSON string where a space, a quote or a control character would break the line.
fn quoted(text: &str) -> String {
    if text.is_empty() || is_marker(text) || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"') {
        return serde_json::Value::from(text).to_string();
    }
    text.to_owned()
}

/// The first word of a line and what follows it.
fn word(text: &str) -> Option<(String, &str)> {
    if !text.starts_with('"') {
        let end = text.find(' ').unwrap_or(text.len());
        return Some((text[..end].to_owned(), text[end..].trim_start_matches(' ')));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let word = values.next()?.ok()?;
    let rest = &text[values.byte_offset()..];
    if rest.is_empty() || rest.starts_with(' ') { Some((word, rest.trim_start_matches(' '))) } else { None }
}

fn entry(line: &str) -> Option<(RelPath, Entry)> {
    let (path, mut rest) = word(line)?;
    let path = RelPath::output(&path).ok().filter(|normal| normal.as_str() == path)?;
    let (mut content, mut key, mut rule, mut model, mut base, mut rows) = (None, None, None, None, None, None);
    while !rest.is_empty() {
        let (name, value) = rest.split_once(':')?;
        let (value, after) = word(value)?;
        match name {
            "sha256" => content = Some(Digest::parse(&value)?),
            "key" => key = Some(Digest::parse(&value)?),
            "rule" => rule = Some(value),
            "model" => model = Some(value),
            "base" => base = Some(Digest::parse(value.strip_prefix("sha256:")?)?),
            "rows" => rows = Some(row_keys(&value)?),
            _ => return None,
        }
        rest = after;
    }
    Some((path, Entry { content: content?, key: key?, rule: rule?, model, base, rows }))
}

fn row_keys(text: &str) -> Option<Arc<[RowKey]>> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    let (rows, rest) = text.as_bytes().as_chunks::<ROW>();
    let row = |row: &[u8; ROW]| RowKey::from_str_radix(std::str::from_utf8(row).ok()?, 16).ok();
    if is_hex && rest.is_empty() { rows.iter().map(row).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(path: &str, content: &str) -> String {
        format!("{path} sha256:{} key:{} rule:r", Digest::of(content), Digest::of("k"))
    }

    #[test]
    fn conflict_markers_are_settled_by_what_is_on_disk() {
        let (ours, theirs) = (line("a", "ours"), line("a", "theirs"));
        let text =
            format!("{HEADER}\n<<<<<<< HEAD\n{ours}\n||||||| base\n=======\n{theirs}\n>>>>>>> b\n{}\n", line("z", "z"));
        let mut lock = Lock::parse("Genfile.lock", &text).unwrap();
        assert!(lock.conflicted);
        let path = RelPath::new("a").unwrap();
        assert_eq!(lock.get(&path, Some(Digest::of("theirs"))).unwrap().content, Digest::of("theirs"));
        // Somebody else's lines stay open, with markers around them.
        lock.settle(|_| None, |path| path.as_str() == "z");
        let open = format!("{HEADER}\n<<<<<<<\n{ours}\n=======\n{theirs}\n>>>>>>>\n{}\n", line("z", "z"));
        assert_eq!(lock.to_text(), open);
        assert_eq!(Lock::parse("Genfile.lock", &open).unwrap(), lock);
        lock.settle(|_| Some(Digest::of("theirs")), |_| true);
        assert!(!lock.conflicted);
        assert_eq!(lock.to_text(), format!("{HEADER}\n{theirs}\n{}\n", line("z", "z")));
    }

    #[test]
    fn what_both_sides_had_before_counts_only_where_it_is_on_disk() {
        let (ours, before, theirs, gone) =
            (line("a", "ours"), line("a", "before"), line("a", "theirs"), line("b", "b"));
        let text = format!(
            "{HEADER}\n<<<<<<< HEAD\n||||||| 1\n{before}\n{gone}\n=======\n{theirs}\n>>>>>>> x\n<<<<<<< HEAD\n{ours}\n=======\n>>>>>>> x\n"
        );
        let path = RelPath::new("a").unwrap();
        for (on_disk, wins) in [("before", "before"), ("ours", "ours"), ("theirs", "theirs"), ("another", "theirs")] {
            let mut lock = Lock::parse("Genfile.lock", &text).unwrap();
            assert_eq!(lock.get(&path, Some(Digest::of(on_disk))).unwrap().content, Digest::of(wins));
            lock.settle(|_| Some(Digest::of(on_disk)), |_| true);
            assert_eq!(lock.to_text(), format!("{HEADER}\n{}\n", line("a", wins)));
        }
    }

    #[test]
    fn lines_of_both_sides_without_markers_are_settled_likewise() {
        let text = format!("{HEADER}\n{}\n{}\n", line("a", "x"), line("a", "y"));
        let mut lock = Lock::parse("Genfile.lock", &text).unwrap();
        assert!(lock.conflicted);
        lock.settle(|_| Some(Digest::of("y")), |_| true);
        assert_eq!(lock.to_text(), format!("{HEADER}\n{}\n", line("a", "y")));
    }

    #[test]
    fn what_is_no_lock_is_an_error_with_its_line() {
        for (text, why) in [
            ("nonsense\n".to_owned(), "1:1: the lock cannot be read: its first line"),
            ("genmake-lock 9\n".to_owned(), "1:1: the lock cannot be read: it is of another version"),
            (format!("{HEADER}\na sha256:xyz\n"), "2:1: the lock cannot be read: this line is no entry"),
            (format!("{HEADER}\n{}\n", line("../a", "x")), "2:1: the lock"),
            (String::new(), "1:1: the lock cannot be read: it is empty"),
        ] {
            let error = Lock::parse("Genfile.lock", &text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Genfile.lock:{why}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            paths in proptest::collection::btree_set("[a-z \"é/]{1,12}", 0..8),
            model in ".{0,9}",
            rows in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..4)),
        ) {
            let mut lock = Lock::default();
            for path in paths.iter().filter_map(|path| RelPath::output(path).ok()) {
                let digest = Digest::of(path.as_str());
                let entry = Entry { content: digest, key: digest, rule: model.clone(), model: Some(model.clone()), base: Some(digest), rows: rows.clone().map(Arc::from) };
                lock.set(path, entry);
            }
            prop_assert_eq!(Lock::parse("l", &lock.to_text()).unwrap(), lock);
        }

        #[test]
        fn a_part_of_it_is_read_and_written_as_the_whole_is(
            paths in proptest::collection::btree_set("[a-c \"/-]{1,5}", 0..9), chosen in 0..512_u32
        ) {
            let mut lock = Lock::default();
            let paths: Vec<RelPath> = paths.iter().filter_map(|path| RelPath::output(path).ok()).collect();
            let digest = Digest::of("old");
            let entry = |content| Entry { content, key: digest, rule: "a b".into(), model: None, base: None, rows: None };
            let is_chosen = |at: usize| chosen >> at & 1 == 1;
            for (at, path) in paths.iter().enumerate().filter(|(at, _)| at % 3 > 0 || !is_chosen(*at)) {
                lock.set(path.clone(), entry(Digest::of(at.to_string())));
            }
            let text = lock.to_text();
            let some: Vec<&RelPath> = paths.iter().enumerate().filter(|(at, _)| is_chosen(*at)).map(|(_, path)| path).collect();
            let mut part = Lock::of_targets(&text, some.iter().copied()).unwrap();
            for path in some {
                prop_assert_eq!(part.get(path, None), lock.get(path, None));
                lock.set(path.clone(), entry(Digest::of("new")));
                part.set(path.clone(), entry(Digest::of("new")));
            }
            prop_assert_eq!(part.put_into(&text).unwrap(), lock.to_text());
        }

        #[test]
        fn no_text_makes_it_panic(text in "(genmake-lock 1\n)?[a-z0-9:\" \n<=>]{0,80}") {
            let _ = Lock::parse("l", &text);
            let path = RelPath::new("a").unwrap();
            if let Some(part) = Lock::of_targets(&text, std::iter::once(&path)) {
                let _ = part.put_into(&text);
            }
        }
    }
}
