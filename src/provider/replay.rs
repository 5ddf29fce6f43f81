//! `api: replay`: answers out of a folder of recordings. Nothing is sent, and what was not recorded is a failure.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Failure, FailureKind, record};
use crate::llm::{Answer, EmbedRequest, Embedded, Request, Usage};
use crate::path::RelPath;

/// The largest recording that is read, in bytes: an answer has 64 MB, and a request as many.
const LARGEST: u64 = 128 << 20;

/// A folder of recordings.
pub(super) struct Recordings {
    /// As the Genfile names it.
    dir: RelPath,
    at: PathBuf,
    /// What there is of single texts, once it was looked for.
    texts: OnceLock<HashMap<String, Text>>,
}

/// What became of a text: its vector, and the tokens that it took.
type Text = (Option<Vec<f32>>, u64);

impl Recordings {
    pub fn new(dir: &RelPath, root: &Path) -> Recordings {
        Recordings { dir: dir.clone(), at: root.join(dir.as_str()), texts: OnceLock::new() }
    }

    /// The answer that was recorded for a request.
    pub fn answer(&self, request: &Request) -> Result<Answer, Failure> {
        let name = record::name(request);
        let bytes = self.read(&name).map_err(|e| match is_missing(&e) {
            true => {
                let paths: Vec<String> = request.paths.iter().map(|path| format!("`{path}`")).collect();
                self.missing(&name, &paths.join(", "))
            }
            false => self.unreadable(&name, &e),
        })?;
        record::answer(&name, &bytes).map_err(|why| self.no_recording(&name, &why))
    }

    /// The vectors that were recorded for texts, in whatever company: what becomes of a text does not depend on it but for last bits, and
    /// in how many requests texts go is another matter at each provider.
    pub fn embed(&self, request: &EmbedRequest) -> Result<Embedded, Failure> {
        let name = record::embed_name(request);
        match self.read(&name) {
            Ok(bytes) => return record::embedded(&name, &bytes).map_err(|why| self.no_recording(&name, &why)),
            Err(e) if is_missing(&e) => {}
            Err(e) => return Err(self.unreadable(&name, &e)),
        }
        let recorded = self.texts.get_or_init(|| self.each_text());
        let of = |text: &String| {
            recorded.get(&record::embed_name(&EmbedRequest { texts: vec![text.clone()], ..request.clone() }))
        };
        let found: Vec<&Text> = request.texts.iter().filter_map(of).collect();
        if found.len() < request.texts.len() {
            let lacks = request.texts.len() - found.len();
            return Err(self.missing(&name, &format!("{lacks} of {} texts", request.texts.len())));
        }
        let usage = Usage { input: found.iter().map(|(_, tokens)| tokens).sum(), ..Usage::default() };
        Ok(Embedded { vectors: found.into_iter().map(|(vector, _)| vector.clone()).collect(), usage, request_id: None })
    }

    /// What all recordings hold of single texts, by the names that these would have alone. What is no recording of vectors is passed
    /// over; of two of one text the one that has a vector counts, else the first by name.
    fn each_text(&self) -> HashMap<String, Text> {
        let entries = fs_err::read_dir(&self.at).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        let mut texts: HashMap<String, Text> = HashMap::new();
        for name in names.iter().filter(|name| name.ends_with(".json")) {
            let each = self.read(name).ok().and_then(|bytes| record::each_embedded(name, &bytes).ok());
            for (name, vector, tokens) in each.into_iter().flatten() {
                let known = texts.entry(name).or_insert((None, tokens));
                if known.0.is_none() {
                    *known = (vector, tokens);
                }
            }
        }
        texts
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.at.join(name);
        match fs_err::metadata(&path)?.len() > LARGEST {
            true => Err(io::Error::other(format!("it is larger than {} MB", LARGEST >> 20))),
            false => fs_err::read(&path),
        }
    }

    fn missing(&self, name: &str, what: &str) -> Failure {
        failed(format!("nothing is recorded for {what}: `{}/{name}` is not there", self.dir))
    }

    fn unreadable(&self, name: &str, why: &io::Error) -> Failure {
        failed(format!("the recording `{}/{name}` cannot be read: {why}", self.dir))
    }

    fn no_recording(&self, name: &str, why: &str) -> Failure {
        failed(format!("`{}/{name}` is no recording: {why}", self.dir))
    }
}

fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(what: String) -> Failure {
    Failure::new(FailureKind::Failed, what)
}
