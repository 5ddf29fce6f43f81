//! `Genfile.lock`: which content each target has, and which key made it. Text in, text out.
//!
//! One line a target, sorted, so that merges rarely conflict; where they did, the markers are understood.

use std::collections::BTreeMap;

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

/// A parsed lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// More than one entry for a path only where a merge left both sides.
    entries: BTreeMap<RelPath, Vec<Entry>>,
    /// Whether the text held conflict markers, so that it must be written anew.
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
}

impl Lock {
    /// Reads a lock; an empty text is an empty lock.
    ///
    /// # Errors
    /// [`Code::BadLock`], pointing at the first line that is none.
    pub fn parse(name: &str, text: &str) -> Result<Lock, Error> {
        let mut lock = Lock::default();
        let mut offset = 0;
        let bad = |what: &str, line: &str, offset: usize| {
            let place = Place { source: Source::new(name, text), span: offset..offset + line.trim_end().len() };
            Error::new(Code::BadLock, format!("the lock cannot be read: {what}")).at(place).hint(format!(
                "take `{name}` back from version control, or delete it: outputs that equal what would be made are adopted"
            ))
        };
        let mut headed = text.trim().is_empty();
        for line in text.split_inclusive('\n') {
            let body = line.trim_end();
            match () {
                () if is_marker(body) => {
                    lock.conflicted = true;
                }
                () if body.is_empty() || body == HEADER => headed |= body == HEADER,
                () if !headed && body.starts_with("genmake-lock ") => {
                    return Err(bad("it is of another version of genmake", line, offset));
                }
                () if !headed => return Err(bad("its first line is not `genmake-lock 1`", line, offset)),
                () => match entry(body) {
                    Some((path, entry)) => {
                        let entries = lock.entries.entry(path).or_default();
                        if !entries.contains(&entry) {
                            entries.push(entry);
                        }
                    }
                    None => return Err(bad("this line is no entry", line, offset)),
                },
            }
            offset += line.len();
        }
        if !lock.conflicted
            && let Some((path, _)) = lock.entries.iter().find(|(_, entries)| entries.len() > 1)
        {
            return Err(bad(&format!("`{path}` stands in it twice"), "", 0));
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

    /// The text: header, then the entries in byte order of their paths.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (path, entry) in self.iter() {
            text += &line(path, entry);
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

    /// Settles what a merge left open by what is on disk.
    pub fn settle(&mut self, on_disk: impl Fn(&RelPath) -> Option<Digest>) {
        for (path, entries) in &mut self.entries {
            if entries.len() > 1 {
                let digest = on_disk(path);
                let at = entries.iter().position(|entry| Some(entry.content) == digest).unwrap_or(0);
                entries.swap(0, at);
                entries.truncate(1);
            }
        }
        self.conflicted = false;
    }

    /// All targets in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Entry)> {
        self.entries.iter().filter_map(|(path, entries)| entries.first().map(|entry| (path, entry)))
    }
}

fn line(path: &RelPath, entry: &Entry) -> String {
    let (name, rule) = (quoted(path.as_str()), quoted(&entry.rule));
    let mut line = format!("{name} sha256:{} key:{} rule:{rule}", entry.content, entry.key);
    if let Some(model) = &entry.model {
        line += &format!(" model:{}", quoted(model));
    }
    if let Some(base) = &entry.base {
        line += &format!(" base:sha256:{base}");
    }
    line.push('\n');
    line
}

/// The lines after the header.
fn lines(text: &str) -> Option<Vec<&str>> {
    let mut lines = text.split_inclusive('\n');
    (text.is_empty() || lines.next()?.strip_suffix('\n')? == HEADER).then(|| lines.collect())
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
    let (mut content, mut key, mut rule, mut model, mut base) = (None, None, None, None, None);
    while !rest.is_empty() {
        let (name, value) = rest.split_once(':')?;
        let (value, after) = word(value)?;
        match name {
            "sha256" => content = Some(Digest::parse(&value)?),
            "key" => key = Some(Digest::parse(&value)?),
            "rule" => rule = Some(value),
            "model" => model = Some(value),
            "base" => base = Some(Digest::parse(value.strip_prefix("sha256:")?)?),
            _ => return None,
        }
        rest = after;
    }
    Some((path, Entry { content: content?, key: key?, rule: rule?, model, base }))
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
        lock.settle(|_| Some(Digest::of("theirs")));
        assert_eq!(lock.to_text(), format!("{HEADER}\n{theirs}\n{}\n", line("z", "z")));
    }

    #[test]
    fn what_is_no_lock_is_an_error_with_its_line() {
        for (text, why) in [
            ("nonsense\n".to_owned(), "1:1: the lock cannot be read: its first line"),
            ("genmake-lock 9\n".to_owned(), "1:1: the lock cannot be read: it is of another version"),
            (format!("{HEADER}\na sha256:xyz\n"), "2:1: the lock cannot be read: this line is no entry"),
            (format!("{HEADER}\n{}\n", line("../a", "x")), "2:1: the lock"),
            (format!("{HEADER}\n{}\n{}\n", line("a", "x"), line("a", "y")), "1:1: the lock cannot be read: `a` stands"),
        ] {
            let error = Lock::parse("Genfile.lock", &text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Genfile.lock:{why}")), "{error}");
        }
        assert_eq!(Lock::parse("Genfile.lock", "").unwrap(), Lock::default());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(paths in proptest::collection::btree_set("[a-z \"é/]{1,12}", 0..8), model in ".{0,9}") {
            let mut lock = Lock::default();
            for path in paths.iter().filter_map(|path| RelPath::output(path).ok()) {
                let digest = Digest::of(path.as_str());
                let entry = Entry { content: digest, key: digest, rule: model.clone(), model: Some(model.clone()), base: Some(digest) };
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
            let entry = |content| Entry { content, key: digest, rule: "a b".into(), model: None, base: None };
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
