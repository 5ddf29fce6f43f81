//! `api: command`: a command of the Genfile answers. It gets a request on its stdin, and what it prints is the answer.

use std::io::{Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::exchange::{self, Said, Vectors};
use super::live::Secret;
use super::mask::{Mask, without};
use super::{Failure, FailureKind, Heard};
use crate::cancel::Cancel;
use crate::llm::{Answer, EmbedRequest, Embedded, Request, Stop, Usage};
use crate::manifest::{self, Stdin};
use crate::shell::{Failed, Shell};

/// The most that is read of an answer, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// How much of what a failed command said is shown: its last lines, of so many bytes.
const TAIL: usize = 2048;

/// How long the pipes of a command that has ended are listened to.
const LINGER: Duration = Duration::from_secs(1);

/// How much of a pipe is read at once.
const PIECE: usize = 16 << 10;

/// The variable in which it finds the model's name.
const MODEL: &str = "GENMAKE_MODEL";

/// `EX_TEMPFAIL` of sysexits: it may succeed if it is tried again.
const TRY_AGAIN: i32 = 75;

/// `EX_DATAERR` of sysexits: this request will not do.
const NOT_THIS: i32 = 65;

/// The mark of an answer that says more than its text, and its one version.
const MARK: &str = "genmake";

/// A command that answers.
pub(super) struct Program {
    line: String,
    stdin: Stdin,
    /// Its key, and the variable in which it gets it.
    key: Option<(String, Secret)>,
    timeout: Duration,
    shell: Shell,
}

/// What there is to know of a command that runs.
enum Heeded {
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// Its stdout has ended.
    OutEnded,
    Ended(Option<ExitStatus>),
}

impl Program {
    pub fn new(
        command: &manifest::Command,
        key: Option<(String, Secret)>,
        timeout: Duration,
        shell: &Shell,
    ) -> Program {
        let manifest::Command { line, stdin } = command.clone();
        Program { line, stdin, key, timeout, shell: shell.clone() }
    }

    pub fn key(&self) -> Option<&Secret> {
        self.key.as_ref().map(|(_, key)| key)
    }

    /// Waits until what was interrupted has ended.
    pub fn wind_up(&self) {
        self.shell.wind_up();
    }

    /// Runs it for a request. `hear` gets its answer as it comes; of what fails after something in it was whole that is kept.
    pub fn ask(
        &self,
        request: &Request,
        hear: &mut dyn FnMut(Heard<'_>) -> bool,
        cancel: &Cancel,
    ) -> Result<Answer, Failure> {
        let mut output = Output::new(self.key());
        let mut is_worth_keeping = false;
        let mut take = |piece: &str| is_worth_keeping = hear(Heard::Text(piece));
        let mut hear = |bytes: &[u8]| output.take(bytes, &mut take);
        let ran = self.run(&request.model, self.input(request), &mut hear);
        let ended = ran.and_then(|()| output.end(&mut take).map_err(|what| self.failed(FailureKind::Failed, what)));
        match ended {
            _ if cancel.is_now() => Err(Failure::new(FailureKind::Cancelled, "interrupted")),
            Ok(()) => output.answer(&self.line, self.key(), &mut take),
            Err(failure) if is_worth_keeping => {
                let stop = Stop::Broken(failure.message);
                Ok(Answer { text: output.text, stop, usage: Usage::default(), request_id: None })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Runs it for texts that are to become vectors. Whatever it is given of other requests, of these it is given JSON: where one text
    /// ends and the next begins could not be told otherwise.
    pub fn embed(&self, request: &EmbedRequest, cancel: &Cancel) -> Result<Embedded, Failure> {
        let input = marked(json!({"embed": exchange::embed_request(request)})).to_string() + "\n";
        let mut bytes = Vec::new();
        let mut hear = |piece: &[u8]| {
            bytes.extend(piece);
            if bytes.len() > MAX_OUTPUT { Err(TOO_LARGE) } else { Ok(()) }
        };
        let ran = self.run(&request.model, input, &mut hear);
        if cancel.is_now() {
            return Err(Failure::new(FailureKind::Cancelled, "interrupted"));
        }
        ran?;
        let said = unmarked(&bytes).and_then(|all| serde_json::from_value::<Vectors>(all).map_err(|e| e.to_string()));
        let embedded = said.and_then(|said| said.of(request.texts.len()));
        embedded.map_err(|why| self.failed(FailureKind::Failed, &format!("printed vectors that are none: {why}")))
    }

    fn input(&self, request: &Request) -> String {
        match self.stdin {
            Stdin::Text => exchange::prompt(request),
            Stdin::Json => marked(exchange::request(request)).to_string() + "\n",
        }
    }

    fn failed(&self, kind: FailureKind, what: &str) -> Failure {
        Failure::new(kind, format!("`{}` {what}", self.line))
    }

    /// Runs it with this on its stdin; `hear` gets what it prints.
    fn run(
        &self,
        model: &str,
        input: String,
        hear: &mut dyn FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> Result<(), Failure> {
        let failed = |kind, what: &str| self.failed(kind, what);
        let mut with = vec![(MODEL, model)];
        with.extend(self.key.iter().map(|(name, Secret(key))| (name.as_str(), key.as_str())));
        // Where make is short of tokens, it begins when one is free: what asks for others' answers is no job, and this is.
        let _slot = self.shell.slot();
        let (child, mut running) =
            self.shell.begin(&self.line, Stdio::piped(), &with).map_err(|failure| match failure {
                Failed::Interrupted => Failure::new(FailureKind::Cancelled, "interrupted"),
                Failed::NotRun(why) | Failed::Ended { said: why, .. } => {
                    failed(FailureKind::Refused, &format!("cannot be run: {why}"))
                }
            })?;
        let heeded = follow(child, input);
        let (mut ended, mut has_all, mut said) = (None, false, Vec::new());
        // How long it may be silent; once it has ended, how long what it said is waited for.
        let mut until = Instant::now() + self.timeout;
        while ended.is_none() || !has_all {
            match heeded.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heeded::Out(bytes)) => {
                    hear(&bytes).map_err(|what| failed(FailureKind::Failed, what))?;
                    if ended.is_none() {
                        until = Instant::now() + self.timeout;
                    }
                }
                Ok(Heeded::Err(bytes)) => {
                    said.extend(bytes);
                    said.drain(..said.len().saturating_sub(TAIL));
                }
                Ok(Heeded::OutEnded) => has_all = true,
                Ok(Heeded::Ended(status)) => {
                    ended = Some(status);
                    until = Instant::now() + LINGER;
                    // What it leaves running would keep its output open.
                    running.kill();
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) if ended.is_some() => break,
                Err(_) => {
                    let silent = humantime::format_duration(self.timeout);
                    return Err(failed(FailureKind::Timeout, &format!("said nothing for {silent}")));
                }
            }
        }
        drop(running);
        // What it said of a failure may come after its output has ended.
        while let Ok(heeded) = heeded.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Heeded::Err(bytes) = heeded {
                said.extend(bytes);
                said.drain(..said.len().saturating_sub(TAIL));
            }
        }
        match ended.flatten() {
            Some(status) if status.success() && has_all => Ok(()),
            Some(status) if status.success() => {
                Err(failed(FailureKind::Failed, "left a process behind that keeps its output open"))
            }
            status => Err(self.ended_badly(status, &said)),
        }
    }

    fn ended_badly(&self, status: Option<ExitStatus>, said: &[u8]) -> Failure {
        let kind = match status.and_then(|status| status.code()) {
            Some(TRY_AGAIN) => FailureKind::Limited,
            Some(NOT_THIS) => FailureKind::Rejected,
            // By these a POSIX shell says that a program is not there, or cannot be run.
            Some(126 | 127) if cfg!(unix) => FailureKind::Refused,
            _ => FailureKind::Failed,
        };
        let status = status.map_or_else(|| "nobody knows how".to_owned(), |status| format!("with {status}"));
        let said = String::from_utf8_lossy(said);
        let said = match said.trim() {
            "" => "it said nothing".to_owned(),
            said if said.contains('\n') => format!("it said:\n{said}"),
            said => said.to_owned(),
        };
        Failure::new(kind, format!("`{}` ended {status}: {said}", self.line))
    }
}

/// Feeds a process, and tells what it says and when it ends.
fn follow(mut child: Child, input: String) -> Receiver<Heeded> {
    // Bounded: a command that says more than is read waits.
    let (send, heeded) = mpsc::sync_channel(64);
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read to the end of its input closes the pipe; that is not for us to judge.
        std::thread::spawn(move || pipe.write_all(input.as_bytes()));
    }
    if let Some(stdout) = child.stdout.take() {
        let send = send.clone();
        std::thread::spawn(move || {
            read(stdout, &send, Heeded::Out);
            let _ = send.send(Heeded::OutEnded);
        });
    }
    if let Some(stderr) = child.stderr.take() {
        let send = send.clone();
        std::thread::spawn(move || read(stderr, &send, Heeded::Err));
    }
    std::thread::spawn(move || send.send(Heeded::Ended(child.wait().ok())));
    heeded
}

/// Reads a pipe to its end, or until nobody listens any more.
fn read(mut pipe: impl Read, send: &SyncSender<Heeded>, heed: impl Fn(Vec<u8>) -> Heeded) {
    let mut piece = vec![0; PIECE];
    loop {
        match pipe.read(&mut piece) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(n @ 1..) if send.send(heed(piece[..n].to_vec())).is_ok() => {}
            _ => return,
        }
    }
}

/// What a command prints, on its way to an answer.
struct Output {
    /// How many bytes there were.
    bytes: usize,
    /// The start of a letter whose end has not come.
    letter: Vec<u8>,
    /// What it is; unknown while too little has come.
    is_envelope: Option<bool>,
    mask: Mask,
    /// What came, without the key; of an envelope with it.
    text: String,
    /// Newlines that came last: at the very end they are one.
    newlines: usize,
}

impl Output {
    fn new(key: Option<&Secret>) -> Output {
        let (text, letter) = (String::new(), Vec::new());
        Output { bytes: 0, letter, is_envelope: None, mask: Mask::new(key), text, newlines: 0 }
    }

    /// Takes the next bytes in, and lets `take` have the text that they add.
    fn take(&mut self, bytes: &[u8], take: &mut dyn FnMut(&str)) -> Result<(), &'static str> {
        self.bytes += bytes.len();
        if self.bytes > MAX_OUTPUT {
            return Err(TOO_LARGE);
        }
        self.letter.extend(bytes);
        let (whole, is_text) = match std::str::from_utf8(&self.letter) {
            Ok(text) => (text.len(), true),
            Err(e) => (e.valid_up_to(), e.error_len().is_none()),
        };
        let rest = self.letter.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.letter, rest)).map_err(|_| NOT_TEXT)?;
        match self.is_envelope {
            Some(true) => self.text += &text,
            Some(false) => self.plain(&text, take),
            None => {
                self.text += &text;
                self.is_envelope = is_envelope(&self.text);
                if self.is_envelope == Some(false) {
                    let text = std::mem::take(&mut self.text);
                    self.plain(&text, take);
                }
            }
        }
        if is_text { Ok(()) } else { Err(NOT_TEXT) }
    }

    fn plain(&mut self, text: &str, take: &mut dyn FnMut(&str)) {
        let piece = self.mask.next(text);
        self.say(&piece, take);
    }

    fn say(&mut self, piece: &str, take: &mut dyn FnMut(&str)) {
        let inner = piece.trim_end_matches('\n');
        let newlines = piece.len() - inner.len();
        if inner.is_empty() {
            self.newlines += newlines;
            return;
        }
        let said = "\n".repeat(std::mem::replace(&mut self.newlines, newlines)) + inner;
        take(&said);
        self.text += &said;
    }

    /// No more comes.
    fn end(&mut self, take: &mut dyn FnMut(&str)) -> Result<(), &'static str> {
        if !self.letter.is_empty() {
            return Err(NOT_TEXT);
        }
        if self.is_envelope == Some(true) {
            return Ok(());
        }
        if self.is_envelope.is_none() {
            let text = std::mem::take(&mut self.text);
            self.plain(&text, take);
        }
        let rest = self.mask.end();
        self.say(&rest, take);
        if self.newlines > 0 && !self.text.is_empty() {
            take("\n");
            self.text.push('\n');
        }
        if self.text.trim().is_empty() { Err("printed nothing") } else { Ok(()) }
    }

    /// The answer, once it has ended well.
    fn answer(self, line: &str, key: Option<&Secret>, take: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        if self.is_envelope != Some(true) {
            return Ok(Answer { text: self.text, stop: Stop::End, usage: Usage::default(), request_id: None });
        }
        let wrong =
            |why: String| Failure::new(FailureKind::Failed, format!("`{line}` printed an answer that is none: {why}"));
        let all = unmarked(self.text.as_bytes()).map_err(&wrong)?;
        let said: Said = serde_json::from_value(all).map_err(|e| wrong(e.to_string()))?;
        let answer = Answer::from(said);
        take(&without(key, &answer.text));
        Ok(answer)
    }
}

/// What is said, with the mark before it.
fn marked(said: Value) -> Value {
    let mut all = serde_json::Map::from_iter([(MARK.to_owned(), 1.into())]);
    if let Value::Object(said) = said {
        all.extend(said);
    }
    Value::Object(all)
}

/// What an object with the mark says beside it.
fn unmarked(text: &[u8]) -> Result<Value, String> {
    let mut all: serde_json::Map<String, Value> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    match all.remove(MARK) {
        Some(version) if version == 1 => Ok(Value::Object(all)),
        other => Err(format!("`{MARK}` is 1, not {}", other.unwrap_or_default())),
    }
}

const TOO_LARGE: &str = "printed more than 64 MB";
const NOT_TEXT: &str = "printed something that is not UTF-8 text";

/// Whether what begins so is an object whose first key is the mark; unknown while it may be.
fn is_envelope(text: &str) -> Option<bool> {
    let text = text.trim_start();
    if text.is_empty() {
        return None;
    }
    let Some(inner) = text.strip_prefix('{').map(str::trim_start) else { return Some(false) };
    let mark = format!("\"{MARK}\"");
    match mark.starts_with(inner) && inner.len() < mark.len() {
        true => None,
        false => Some(inner.starts_with(&mark)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of a text that comes in pieces of this size, and the answer.
    fn printed(bytes: &[u8], size: usize) -> (String, Result<Answer, String>) {
        let key = Secret("sk-canary".to_owned());
        let mut heard = String::new();
        let mut take = |piece: &str| heard += piece;
        let mut output = Output::new(Some(&key));
        let taken = bytes.chunks(size).try_for_each(|piece| output.take(piece, &mut take));
        let ended = taken.and_then(|()| output.end(&mut take)).map_err(str::to_owned);
        let answer = ended.and_then(|()| output.answer("c", Some(&key), &mut take).map_err(|e| e.message));
        (heard, answer)
    }

    /// The same however it is cut.
    #[track_caller]
    fn says(bytes: &[u8]) -> Result<Answer, String> {
        let whole = printed(bytes, bytes.len().max(1));
        for size in 1..12 {
            assert_eq!(printed(bytes, size), whole, "in pieces of {size}");
        }
        let (heard, answer) = whole;
        if let Ok(answer) = &answer {
            assert_eq!(heard, answer.text.replace("sk-canary", "***"));
        }
        answer
    }

    #[test]
    fn what_is_printed_is_the_answer() {
        let text = |printed: &str| says(printed.as_bytes()).unwrap().text;
        assert_eq!(text("# é\n\nIt is.\n"), "# é\n\nIt is.\n");
        // Programs end their output with newlines as they like.
        assert_eq!(text("one\n\n\n"), "one\n");
        assert_eq!(text("\n\none"), "\n\none");
        assert_eq!(text("the key is sk-canary, and sk-can is none\n"), "the key is ***, and sk-can is none\n");
        for json in ["{", " {\"files\": {\"f1\": \"x\"}}", "{\"genmak", "{\"genmakes\": 1}", "[{\"genmake\": 1}]"] {
            assert_eq!(text(json), json);
        }
    }

    #[test]
    fn what_is_no_text_is_said() {
        assert_eq!(says(b""), Err("printed nothing".to_owned()));
        assert_eq!(says(b" \n\n"), Err("printed nothing".to_owned()));
        assert_eq!(says(b"a\xff"), Err(NOT_TEXT.to_owned()));
        assert_eq!(says(b"a\xc3"), Err(NOT_TEXT.to_owned()));
        let much = vec![b'x'; MAX_OUTPUT + 1];
        assert_eq!(printed(&much, much.len()).1, Err(TOO_LARGE.to_owned()));
    }

    #[test]
    fn an_envelope_says_more_than_the_text() {
        let answer = says(
            br#" {"genmake": 1, "text": "half", "stop": "length", "usage": {"input_tokens": 3, "output_tokens": 4}, "id": "r1"}"#,
        )
        .unwrap();
        let usage = Usage { input: 3, output: 4, ..Usage::default() };
        assert_eq!(answer, Answer { text: "half".into(), stop: Stop::Length, usage, request_id: Some("r1".into()) });
        let refused = says(br#"{ "genmake" : 1, "stop": "refused", "message": "no"}"#).unwrap();
        assert_eq!((refused.stop, refused.text), (Stop::Refused("no".into()), String::new()));
        // The key in it is taken out before anybody hears it; who sends the request takes it out of the rest.
        assert_eq!(printed(br#"{"genmake": 1, "text": "sk-canary"}"#, 7).0, "***");
        let wrong = |text: &str| says(text.as_bytes()).unwrap_err();
        assert!(wrong(r#"{"genmake": 2, "text": ""}"#).ends_with("`genmake` is 1, not 2"));
        assert!(wrong(r#"{"genmake": 1, "txt": ""}"#).contains("unknown field `txt`"));
        assert!(wrong(r#"{"genmake": 1, "stop": "tired"}"#).contains("unknown variant `tired`"));
        assert!(wrong(r#"{"genmake": 1, "text": "a"} b"#).contains("trailing characters"));
    }
}
